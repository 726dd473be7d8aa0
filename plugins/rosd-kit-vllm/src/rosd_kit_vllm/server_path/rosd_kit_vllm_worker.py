"""What a vLLM server needs to serve a trainer. Its workers import it (`--worker-extension-cls`); it needs nothing of rosd-kit.

* Log-probs are those of the whole distribution at the sampling temperature, whatever `top_k`, `top_p` and `min_p` leave out:
  the trainer computes them so. vLLM's own are of what is left.
* On a CPU, layers read their weight at every call. With oneDNN they keep a packed copy, which reloaded weights do not reach.
"""

from __future__ import annotations

import os
from typing import Any

import vllm._custom_ops as operations
from vllm.platforms import current_platform
from vllm.v1.sample.sampler import Sampler

_sample = Sampler.sample


class WorkerExtension:
    """Named by `--worker-extension-cls`. Importing this module does the work; the class adds nothing."""


def _sample_with_whole_logprobs(self: Any, logits: Any, metadata: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Sample as vLLM does, and return log-probs from before tokens were left out."""
    logprobs = None
    if self.logprobs_mode == "processed_logprobs" and metadata.max_num_logprobs is not None:
        scaled = logits  # all requests are greedy
        if metadata.temperature is not None:
            scaled = self.apply_temperature(logits.clone(), metadata.temperature, metadata.all_random)
        logprobs = self.compute_logprobs(scaled)
    sampled, processed = _sample(self, logits, metadata, *args, **options)
    return sampled, processed if logprobs is None else logprobs


Sampler.sample = _sample_with_whole_logprobs
if current_platform.is_cpu():
    operations._supports_onednn = False
elif os.environ.get("VLLM_USE_V2_MODEL_RUNNER") != "0":
    raise RuntimeError("rosd-kit-vllm needs VLLM_USE_V2_MODEL_RUNNER=0: it does not know the sampler of the other model runner")
