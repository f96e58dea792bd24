"""Builds an `EngineCore` from an `EngineConfig`: checkpoint, device, dtype, memory."""

import logging
import time
from pathlib import Path
from typing import Any

import torch

from model_runtime.block_pool import BlockPool
from model_runtime.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from model_runtime.core import EngineCore, OnLaunch
from model_runtime.grammar import prepare_grammars
from model_runtime.kv_cache import KVCache, count_blocks
from model_runtime.model import Model
from model_runtime.native.acceleration import accelerate, choose_ops
from model_runtime.native.config import UnsupportedError, read_text_config
from model_runtime.native.graphs import DecodeLimits
from model_runtime.native.model import NativeModel
from model_runtime.protocol import EngineConfig, WorkerReady
from model_runtime.runner import ModelRunner
from model_runtime.vision import VisionEncoder

logger = logging.getLogger(__name__)


def load_engine(
    config: EngineConfig, on_launch: OnLaunch = lambda request_ids: None
) -> tuple[EngineCore, WorkerReady]:
    """Load the model and lay out its memory. `on_launch` is the engine's.

    Raises CheckpointError, with a message for the user, when the checkpoint or the memory
    does not allow it.
    """
    started = time.monotonic()
    checkpoint = load_checkpoint(Path(config.checkpoint_path), config.checkpoint_path)
    device = choose_device(config.device)
    model = load_model(config, checkpoint, device)
    max_model_len = limit_model_len(config, checkpoint)
    num_blocks = count_blocks(config, model.kv_geometry, max_model_len, device)
    max_model_len = fit_model_len(config, max_model_len, num_blocks)
    core = _assemble(config, checkpoint, model, num_blocks, max_model_len, on_launch)
    ready = WorkerReady(
        max_model_len=max_model_len,
        num_blocks=num_blocks,
        block_size=config.block_size,
        device=str(device),
        dtype=str(model.dtype).removeprefix("torch."),
        model_impl=model.impl,
        load_time_s=time.monotonic() - started,
    )
    logger.debug("model loaded: %s", ready)
    return core, ready


def _assemble(
    config: EngineConfig,
    checkpoint: Checkpoint,
    model: Model,
    num_blocks: int,
    max_model_len: int,
    on_launch: OnLaunch,
) -> EngineCore:
    cache = KVCache(model.kv_geometry, num_blocks, config.block_size, model.device)
    max_num_tiles = choose_tile_budget(config, model)
    limits = DecodeLimits(
        config.max_num_seqs, -(-max_model_len // config.block_size), config.block_size
    )
    fast = accelerate(model, cache, checkpoint.tiles, max_num_tiles=max_num_tiles, limits=limits)
    vision = VisionEncoder(
        fast.encode_tiles, checkpoint.tiles, cache_bytes=config.mm_embedding_cache_bytes
    )
    runs_ahead = config.async_scheduling
    return EngineCore(
        config,
        pool=BlockPool(num_blocks, config.block_size),
        runner=ModelRunner(model, cache, vision, config.block_size, fast.decode_logits),
        vision=vision,
        grammars=prepare_grammars(checkpoint),
        eos_token_ids=checkpoint.generation.eos_token_ids,
        vocab_size=checkpoint.vocab_size,
        max_model_len=max_model_len,
        max_num_batched_tokens=choose_token_budget(config, model.device),
        max_tiles_per_step=max_num_tiles,
        runs_ahead=model.device.type == "cuda" if runs_ahead is None else runs_ahead,
        on_launch=on_launch,
    )


def load_model(config: EngineConfig, checkpoint: Checkpoint, device: torch.device) -> Model:
    """The implementation the user wants; auto takes the native one when it knows every module."""
    from transformers import AutoConfig

    model_config = AutoConfig.from_pretrained(checkpoint.path)
    wanted = choose_impl(config, device)
    if wanted != "transformers":
        try:
            return _load_native(config, checkpoint, model_config, device)
        except UnsupportedError as error:
            if wanted == "native":
                raise CheckpointError(f"--model-impl native: {error}.") from error
            logger.info("model implementation: transformers, since %s", error)
    from model_runtime.transformers_model import TransformersModel  # slow import

    return TransformersModel(
        checkpoint,
        model_config,
        dtype=choose_dtype(config.dtype),
        device=device,
        quantization=config.quantization,
    )


def _load_native(
    config: EngineConfig, checkpoint: Checkpoint, model_config: Any, device: torch.device
) -> NativeModel:
    model = NativeModel(
        checkpoint,
        model_config,
        dtype=choose_dtype(config.dtype),
        device=device,
        ops=choose_ops(read_text_config(model_config), config.block_size, device),
        is_int8=config.quantization == "int8",
    )
    logger.info("model implementation: native")
    return model


def choose_impl(config: EngineConfig, device: torch.device) -> str:
    """auto, native or transformers. A quantization runs on one of them only."""
    if config.quantization is None:
        return config.model_impl
    needed = "native" if config.quantization == "int8" else "transformers"
    if config.model_impl not in ("auto", needed):
        raise CheckpointError(f"--quantization {config.quantization} needs --model-impl {needed}.")
    if config.quantization == "int8" and device.type != "cpu":
        raise CheckpointError("--quantization int8 is for CPUs; on a GPU take bitsandbytes-8bit.")
    return needed


def choose_device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: str) -> torch.dtype | None:
    """torch's dtype, or None for "auto": the checkpoint's own."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes.get(name)


def choose_token_budget(config: EngineConfig, device: torch.device) -> int:
    """Tokens of one step: as many as keep the device's matrix units busy, and no more, since
    every decode waits for the step that it is in."""
    if config.max_num_batched_tokens is not None:
        return config.max_num_batched_tokens
    return max(config.max_num_seqs, 512 if device.type == "cpu" else 2048)


def choose_tile_budget(config: EngineConfig, model: Model) -> int:
    """Tiles of one step: what a CPU encodes in a fraction of a second, a GPU in milliseconds."""
    if config.max_tiles_per_step is not None:
        return config.max_tiles_per_step
    budget_flops = 1e11 if model.device.type == "cpu" else 2e13
    return int(min(32, max(1, budget_flops // model.tile_flops)))


def limit_model_len(config: EngineConfig, checkpoint: Checkpoint) -> int:
    """The wanted context length; never beyond what the checkpoint was trained for."""
    if config.max_model_len is None:
        return checkpoint.context_len
    if config.max_model_len > checkpoint.context_len:
        raise CheckpointError(
            f"--max-model-len {config.max_model_len} exceeds the checkpoint's "
            f"{checkpoint.context_len} positions."
        )
    return config.max_model_len


def fit_model_len(config: EngineConfig, max_model_len: int, num_blocks: int) -> int:
    """A sequence of full length must fit the KV cache alone, else it could never finish."""
    num_slots = num_blocks * config.block_size
    if max_model_len <= num_slots:
        return max_model_len
    if config.max_model_len is not None or num_slots < 2:
        raise CheckpointError(
            f"The KV cache holds {num_slots} tokens, fewer than --max-model-len {max_model_len}. "
            "Raise --kv-cache-memory-bytes or lower --max-model-len."
        )
    logger.warning("max_model_len lowered from %d to %d: KV memory", max_model_len, num_slots)
    return num_slots
