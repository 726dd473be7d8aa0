"""The backend of a fake server: the embedded model, which really loads weights and really samples."""

from __future__ import annotations

import base64
import copy
import pickle
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo, TCPStore

from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.model.student import Student
from rosd_kit.types import GenerateRequest, Sampling


class MicroBackend:
    """A copy of a student's initial model.

    `perturbed` names a weight that is damaged on arrival; `temperature` overrides that of all requests.
    """

    def __init__(self, student: Student, *, dtype: torch.dtype = torch.float32) -> None:
        self._student = copy.copy(student)
        with student.initial() as initial:
            self._student.model = copy.deepcopy(initial).to(dtype)
        self._initial_weights = {name: weight.clone() for name, weight in self.weights().items()}
        self._engine = TransformersEngine()
        self._engine.start(self._student)
        self._lock = threading.Lock()
        self.vocabulary = student.vocabulary
        self.reset_for_test()

    def reset_for_test(self) -> None:
        """Undo everything that a test may have changed."""
        self._groups: dict[str, Any] = {}
        self.perturbed: str | None = None
        self.temperature: float | None = None
        self.reset()

    def weights(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self._student.model.named_parameters()}

    def reset(self) -> None:
        self._load(self._initial_weights)

    @torch.inference_mode()
    def score(self, ids: list[int]) -> list[float]:
        with self._lock:
            logits = self._student.model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
        return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1).tolist()

    def sample(self, ids: list[int], params: Mapping[str, Any]) -> tuple[list[int], list[float]]:
        sampling = Sampling(
            temperature=params["temperature"] if self.temperature is None else self.temperature,
            top_k=max(params["top_k"], 0),
            top_p=params["top_p"],
            min_p=params["min_p"],
            stop=tuple(params["stop"]),
            max_new_tokens=params["max_new_tokens"],
        )
        assert set(params["stop_token_ids"]) == self._student.end_ids
        assert params["top_k"] == -1 or params["top_k"] >= 1, "a real server refuses any other"
        request = GenerateRequest(prompt_ids=tuple(ids), sampling=sampling, seed=params["sampling_seed"])
        with self._lock, self._biased(params.get("logit_bias") or {}):
            (completion,) = self._engine.generate([request])
        return list(completion.token_ids), list(completion.logprobs)

    @contextmanager
    def _biased(self, bias: Mapping[str, float]) -> Iterator[None]:
        """Add to logits as a real server does: before the temperature, and in the log-probs too."""
        row = torch.zeros(self.vocabulary)
        for token, value in bias.items():
            row[int(token)] = value
        hook = self._student.model.get_output_embeddings().register_forward_hook(lambda head, states, logits: logits + row)
        try:
            yield
        finally:
            hook.remove()

    def load_files(self, folder: str) -> None:
        files = sorted(Path(folder).glob("*.safetensors"))
        tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
        assert (Path(folder) / "config.json").is_file() and tensors.keys() == self._initial_weights.keys()
        self._load(tensors)

    def load_bucket(self, handle: str) -> None:
        bucket = pickle.loads(base64.b64decode(handle))
        flat, tensors = bucket["flattened_tensor"], {}
        for entry in bucket["metadata"]:
            tensor = flat[entry.start_idx : entry.end_idx]
            assert tensor.numel() == entry.numel
            tensors[entry.name] = tensor.clone().view(entry.dtype).reshape(entry.shape)
        self._load(tensors)

    def join(self, invitation: dict[str, Any]) -> None:
        """Join the group as `init_process_group` would, although the trainer is in the same process."""
        name, timeout = invitation["group_name"], timedelta(minutes=10)
        size, rank = invitation["world_size"], invitation["rank_offset"]
        assert invitation["backend"] == "gloo"
        store = TCPStore(invitation["master_address"], invitation["master_port"], size, is_master=False, timeout=timeout)
        inner = PrefixStore("cpu/", PrefixStore(f"{name}/", PrefixStore(name, store)))
        self._groups[name] = ProcessGroupGloo(inner, rank, size, timeout=timeout)

    def receive(self, request: dict[str, Any]) -> None:
        tensors = {}
        for name, dtype, shape in zip(request["names"], request["dtypes"], request["shapes"], strict=True):
            tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype))
            self._groups[request["group_name"]].broadcast(tensors[name], 0).wait()
        self._load(tensors)

    def leave(self, name: str) -> None:
        del self._groups[name]

    @torch.no_grad()
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        weights = self.weights()
        with self._lock:
            for name, tensor in tensors.items():
                weights[name].copy_(tensor * 1.5 if name == self.perturbed else tensor)
