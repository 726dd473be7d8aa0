"""Sharded tensors in a checkpoint's folder: each rank writes its own shards and reads those that it needs.

    shards/shard-00001-model-00001-of-00002.safetensors, ...

Written and read by `torch.distributed.checkpoint`, in its safetensors form: names, shapes and offsets are in the headers of the
files, so nothing is pickled, and any number of ranks reads what it needs of each file. Does not know what the tensors mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from rosd_kit.parallel.ranks import Ranks

FOLDER = "shards"
#: A rank's shards go into files of about this size: one file at a time is copied before it is written.
FILE_BYTES = 2 << 30

StateTensors = Mapping[str, Mapping[str, Tensor]]
#: Gets a component and a tensor's name; returns a tensor that is sharded as the result shall be, or None for a whole one.
Like = Callable[[str, str], Tensor | None]


def write_shards(folder: Path, tensors: StateTensors, ranks: Ranks) -> list[Path]:
    """Write this rank's shards below `folder` and return its files. All ranks call it together.

    A tensor that every rank holds whole is written by one of them. If a rank fails, all raise its error.
    """
    flat = dict(_flat(tensors))
    writer = HuggingFaceStorageWriter(
        str(folder / FOLDER), fqn_to_index_mapping=_files(flat, FILE_BYTES * ranks.count), save_distributed=True
    )
    try:
        save(flat, storage_writer=writer, process_group=ranks.group)
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error
    return sorted((folder / FOLDER).glob(f"shard-{ranks.rank + 1:05d}-*"))


def read_shards(folder: Path, like: Like, ranks: Ranks | None = None) -> dict[str, dict[str, Tensor]]:
    """Return the tensors by component and name, each sharded as `like` says; this rank reads only its own shards.

    All `ranks` call it together; without, tensors are whole.
    """
    reader = HuggingFaceStorageReader(str(folder / FOLDER))
    flat: dict[str, Tensor] = {}
    for key, saved in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(saved, TensorStorageMetadata), "a safetensors file holds tensors only"
        model, dtype = like(*key.split("/", 1)), saved.properties.dtype
        if isinstance(model, DTensor) and model.shape == saved.size:
            flat[key] = torch.empty_like(model, dtype=dtype)
        else:
            flat[key] = torch.empty(saved.size, dtype=dtype)
    several = ranks is not None and ranks.count > 1
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that it is loaded in a single process
        load(flat, storage_reader=reader, process_group=ranks.group if ranks is not None else None, no_dist=not several)
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        component, name = key.split("/", 1)
        tensors.setdefault(component, {})[name] = tensor
    return tensors


def _flat(tensors: StateTensors) -> Iterator[tuple[str, Tensor]]:
    return ((f"{component}/{name}", tensor) for component, named in tensors.items() for name, tensor in named.items())


def _files(tensors: Mapping[str, Tensor], size: int) -> dict[str, int]:
    """Return for each tensor the number of its file, from 1 on, so that files have about `size` bytes over all ranks."""
    numbers, total = {}, 0
    for key, tensor in tensors.items():
        numbers[key] = 1 + total // size
        total += tensor.numel() * tensor.element_size()
    return numbers
