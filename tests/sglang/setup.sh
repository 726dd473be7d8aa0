#!/usr/bin/env bash
# Creates a virtual environment in which an SGLang server runs on a CPU, for the tests in this folder.
#     tests/sglang/setup.sh [FOLDER] [VERSION]      default: .sglang 0.5.21
# It needs about 3 GB. A second call does nothing, unless its inputs have changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../.sglang}
version=${2:-0.5.21}
wanted=$(cat "$0" "$here"/cpu/requirements.txt "$here"/cpu/stubs/*.py "$here"/cpu/stubs/*/*.py <(echo "$version") | sha256sum)

if [ "$(cat "$folder/ready" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" -r "$here/cpu/requirements.txt"
"${pip[@]}" --no-deps "sglang==$version" torchvision==0.28.0
packages=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
cp -r "$here"/cpu/stubs/* "$packages"
echo "import torchvision_without_cuda" >"$packages/torchvision_without_cuda.pth"
"$folder/bin/python" -c "import sglang.launch_server"
echo "$wanted" >"$folder/ready"
