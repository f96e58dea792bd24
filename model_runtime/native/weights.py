"""Reads a checkpoint's tensors from safetensors files, sharded or not, under one set of names.

Published checkpoints name their modules in two ways (`language_model.model.layers…` and
`model.language_model.layers…`); both become `language_model.layers…` here.
"""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from model_runtime.checkpoint import CheckpointError
from model_runtime.native.config import UnsupportedError
from model_runtime.progress import Progress

_MODULES = ("language_model.", "vision_tower.", "multi_modal_projector.")
HEAD = "lm_head.weight"


class CheckpointWeights:
    """Hands out tensors in the wanted dtype and place, and knows which were never asked for."""

    def __init__(self, folder: Path, dtype: torch.dtype | None, device: torch.device) -> None:
        """`dtype` None: the type the checkpoint's embedding table is stored in."""
        self.device = device
        paths = _safetensors(folder)
        files: list[Any] = [safe_open(path, framework="pt") for path in paths]
        self._places = {
            canonical_name(name): (file, name) for file in files for name in file.keys()
        }
        self._untaken = set(self._places)
        self._progress = Progress("loading weights", sum(path.stat().st_size for path in paths))
        self.dtype = dtype or self._read("language_model.embed_tokens.weight").dtype

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def take(self, name: str) -> torch.Tensor:
        """Raises UnsupportedError when the checkpoint has no such tensor."""
        tensor = self._read(name)
        if name in self._untaken:
            self._untaken.remove(name)
            self._progress.advance(tensor.nbytes)
        return tensor.to(self.device, self.dtype)

    def take_optional(self, name: str) -> torch.Tensor | None:
        return self.take(name) if name in self else None

    def take_merged(self, names: list[str]) -> torch.Tensor:
        """Several projections of the same input as one matrix: rows below each other."""
        return torch.cat([self.take(name) for name in names])

    def num_parameters(self, prefix: str) -> int:
        """In all tensors whose names begin with `prefix`."""
        places = [place for name, place in self._places.items() if name.startswith(prefix)]
        return sum(math.prod(file.get_slice(name).get_shape()) for file, name in places)

    def require_all_taken(self) -> None:
        """Raises UnsupportedError for a module that nobody asked for."""
        self._progress.close()
        if self._untaken:
            raise UnsupportedError(f"the native model does not know {min(self._untaken)!r}")

    def _read(self, name: str) -> torch.Tensor:
        if name not in self._places:
            raise UnsupportedError(f"the checkpoint has no {name!r}")
        file, stored_name = self._places[name]
        tensor: torch.Tensor = file.get_tensor(stored_name)
        return tensor


def has_head(folder: Path) -> bool:
    """Whether the checkpoint holds an output head of its own; else it is tied to the embeddings."""
    files: list[Any] = [safe_open(path, framework="pt") for path in _safetensors(folder)]
    return any(canonical_name(name) == HEAD for file in files for name in file.keys())


def canonical_name(name: str) -> str:
    """One name per tensor, however the checkpoint nests its modules."""
    inner = name.removeprefix("model.")
    if not inner.startswith(_MODULES):
        return name
    inner = inner.replace("language_model.model.", "language_model.", 1)
    return inner.replace("language_model.lm_head.", "lm_head.", 1)


def _safetensors(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(f"There are no *.safetensors files in {folder}.")
    return paths
