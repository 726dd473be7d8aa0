"""What is sent to a server and what is made of its responses, without a server."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path

import pydantic
import pytest
from rosd_kit_vllm import VLLMEngine
from rosd_kit_vllm.client import VLLMClient
from rosd_kit_vllm.launch import PROGRAM, SERVER_PATH, default_arguments
from rosd_kit_vllm.protocol import parse_generate, parse_scores, parse_server_info

import rosd_kit as rk
from rosd_kit.serving.protocol import RequestRejected, ServerFault
from rosd_kit.settings import ModelSettings

RESPONSE = {
    "choices": [
        {
            "finish_reason": "stop",
            "token_ids": [7, 3],
            "logprobs": {"content": [{"token_id": 7, "logprob": -0.5}, {"token_id": 3, "logprob": -0.25}]},
            "weight_versions": [{"version": "run-1", "start": 0, "end": 1}, {"version": "run-2", "start": 1, "end": 2}],
        }
    ],
    "usage": {"prompt_tokens": 2},
    "prompt_logprobs": [None, {"6": {"logprob": -1.5, "rank": 1}}],
}
INFO = {
    "vllm_config": {
        "model_config": {
            "model": "m", "dtype": "torch.float32", "max_model_len": 512, "logprobs_mode": "processed_logprobs"
        },
        "parallel_config": {"tensor_parallel_size": 2, "worker_extension_cls": "rosd_kit_vllm_worker.WorkerExtension"},
    }
}  # fmt: skip


class Recorder(VLLMClient):
    """Records what is posted instead of sending it; answers with `RESPONSE`, or fails at a route."""

    def __init__(self, fails_at: str | None = None, error: Exception | None = None) -> None:
        super().__init__("http://127.0.0.1:1", timeout=1.0)
        self.posted: list[tuple[str, object]] = []
        self.fails_at, self.error = fails_at, error

    async def post(self, route, payload):
        self.posted.append((route, payload))
        if route == self.fails_at:
            raise self.error
        return RESPONSE


def generate(client: VLLMClient, **sampling) -> object:
    return asyncio.run(
        client.generate([5, 6], rk.Sampling(**sampling), budget=4, seed=(1 << 31) + 9, end_ids=[3], never=[11, 12])
    )


def test_a_request_carries_all_options_of_sampling():
    client = Recorder()
    result = generate(client, temperature=0.7, top_k=20, top_p=0.9, min_p=0.05, stop=("###",))
    assert (result.token_ids, result.logprobs, result.finish_reason) == ((7, 3), (-0.5, -0.25), "stop")
    assert result.labels == {"run-1", "run-2"}
    ((route, payload),) = client.posted
    assert route == "/inference/v1/generate" and payload["token_ids"] == [5, 6]
    assert payload["sampling_params"] == {
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.05,
        "max_tokens": 4,
        "stop": ["###"],
        "include_stop_str_in_output": True,
        "stop_token_ids": [3],
        "ignore_eos": True,
        "seed": 9,
        "skip_special_tokens": False,
        "logprobs": 0,
        "logit_bias": {"11": -100.0, "12": -100.0},
    }


def test_a_temperature_that_vllm_would_replace_is_refused():
    client = Recorder()
    with pytest.raises(RequestRejected, match=r"samples at 0\.01 instead of 0\.001\. Use 0, or 0\.01 and more"):
        generate(client, temperature=0.001)
    assert client.posted == []
    generate(client, temperature=0.0)
    generate(client, temperature=0.01)
    assert len(client.posted) == 2


def test_weights_are_loaded_while_the_server_is_paused():
    client = Recorder()
    asyncio.run(client.load_files(Path("/weights"), "run-3"))
    assert client.posted == [
        ("/pause?mode=abort", {}),
        ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": "/weights"}}),
        ("/update_weight_version", {"new_version": "run-3"}),
        ("/resume", {}),
    ]


def test_a_server_that_could_not_load_weights_is_resumed_and_does_not_get_their_name():
    client = Recorder("/collective_rpc", ServerFault("unavailable", "broken"))
    with pytest.raises(ServerFault, match="broken"):
        asyncio.run(client.load_files(Path("/weights"), "run-3"))
    assert [route for route, _ in client.posted] == ["/pause?mode=abort", "/collective_rpc", "/resume"]


def test_a_cache_that_cannot_be_reset_yet_is_a_fault_that_a_retry_may_fix():
    client = Recorder("/reset_prefix_cache", RequestRejected("/reset_prefix_cache: None"))
    with pytest.raises(ServerFault, match="unavailable"):
        asyncio.run(client.flush_cache())


def changed(**fields) -> dict:
    response = copy.deepcopy(RESPONSE)
    response["choices"][0] |= fields
    return response


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ({}, "garbled"),
        ({"choices": []}, "garbled"),
        (changed(finish_reason="abort"), "aborted"),
        (changed(finish_reason="sneezed"), "garbled"),
        (changed(token_ids=[7]), "garbled"),
        (changed(logprobs=None), "garbled"),
        (changed(logprobs={"content": None}), "garbled"),
    ],
)
def test_a_response_that_a_retry_may_mend_is_a_fault_with_a_kind(response, kind):
    with pytest.raises(ServerFault) as error:
        parse_generate(response, [5, 6])
    assert error.value.kind == kind


def test_a_response_without_labels_names_no_weights():
    assert parse_generate(changed(weight_versions=None), [5, 6]).labels == frozenset()


def test_a_server_that_reads_another_prompt_is_refused():
    with pytest.raises(RequestRejected, match="template: the server read a prompt of 2 tokens; 3 were sent"):
        parse_generate(RESPONSE, [5, 6, 7])
    with pytest.raises(RequestRejected, match="template: the server read a prompt of 2 tokens; 3 were sent"):
        parse_scores(RESPONSE, [5, 6, 7])


def test_scores_are_of_the_sent_ids():
    assert parse_scores(RESPONSE, [5, 6]) == [-1.5]
    with pytest.raises(ServerFault, match="not the scores"):
        parse_scores(RESPONSE, [5, 9])


def test_what_a_server_says_of_itself_is_read():
    info = parse_server_info("0.32.0+cpu", INFO, any_version=False)
    assert (info.model, info.dtype, info.context_length, info.ranks) == ("m", "torch.float32", 511, 2)


@pytest.mark.parametrize(
    ("section", "field", "option"),
    [
        ("model_config", "logprobs_mode", "--logprobs-mode raw_logprobs"),
        ("parallel_config", "worker_extension_cls", "--worker-extension-cls raw_logprobs"),
    ],
)
def test_a_server_started_without_what_it_needs_is_refused_with_the_option(section, field, option):
    info = copy.deepcopy(INFO)
    info["vllm_config"][section][field] = "raw_logprobs"
    with pytest.raises(rk.EngineError, match=rf"was started with {option}; .* Start it with {option.split()[0]} "):
        parse_server_info("0.32.0", info, any_version=False)


def test_only_tested_versions_are_accepted_unless_any_is_allowed():
    with pytest.raises(rk.EngineError, match=r"runs vLLM 0\.31\.0; .* 0\.32\.0.*rollout\.any_version=true"):
        parse_server_info("0.31.0", INFO, any_version=False)
    assert parse_server_info("0.31.0", INFO, any_version=True).ranks == 2
    with pytest.raises(ServerFault, match="not a response of /server_info"):
        parse_server_info("0.32.0", {"vllm_config": "text"}, any_version=False)


def test_a_colocated_server_is_refused():
    with pytest.raises(pydantic.ValidationError, match="colocated"):
        VLLMEngine.Config(colocated=True)


def test_an_interpreter_without_vllm_is_named_with_the_remedies(tmp_path):
    student = rk.Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    engine = VLLMEngine(VLLMEngine.Config(launch={"python": "/bin/false"}))
    with pytest.raises(rk.EngineError, match=r"/bin/false has no vLLM\. .*ROSD_KIT_VLLM_PYTHON.*rollout\.url"):
        engine.start(student, rk.Site(tmp_path))


def test_a_launched_server_finds_the_worker_extension_and_nothing_else(monkeypatch):
    student = rk.Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    arguments, environment = default_arguments(student)
    assert environment["PYTHONPATH"] == str(SERVER_PATH)
    assert [path.name for path in SERVER_PATH.glob("*.py")] == ["rosd_kit_vllm_worker.py"]
    assert arguments["worker_extension_cls"] == "rosd_kit_vllm_worker.WorkerExtension" and arguments["dtype"] == "float32"
    monkeypatch.setenv("ROSD_KIT_VLLM_PYTHON", "/opt/vllm/bin/python")
    assert PROGRAM.python(VLLMEngine.Config().launch) == "/opt/vllm/bin/python"
    assert PROGRAM.python(VLLMEngine.Config(launch={"python": "mine"}).launch) == "mine"


@pytest.mark.parametrize(
    ("versions", "fault"),
    [
        (
            {"torch": "2.13.0"},
            "has no vLLM; name one that has it with rollout.launch.python or ROSD_KIT_VLLM_PYTHON (the ",
        ),
        ({"vllm": "0.31.0", "torch": "2.13.0"}, "has vLLM 0.31.0; this client was tested with 0.32.0 to 0.32.99"),
        ({"vllm": "0.32.0+cpu", "torch": "2.13.0+cpu"}, None),
    ],
)
def test_doctor_asks_the_interpreter_that_the_environment_names(tmp_path, monkeypatch, versions, fault):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(versions)}'\n")
    python.chmod(0o755)
    monkeypatch.setenv("ROSD_KIT_VLLM_PYTHON", str(python))
    found = VLLMEngine.missing(VLLMEngine.Config(), on_gpu=False)
    assert len(found) == (fault is not None)
    assert all(f"{python} {fault}" in line for line in found)
    assert VLLMEngine.missing(VLLMEngine.Config(url="http://127.0.0.1:8000"), on_gpu=False) == []
