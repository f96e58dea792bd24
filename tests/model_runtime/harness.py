"""Drives an `EngineCore` by hand, and asks transformers for the truth."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration

from model_runtime.batch import build_batch
from model_runtime.checkpoint import Checkpoint, load_checkpoint
from model_runtime.core import EngineCore
from model_runtime.kv_cache import KVCache
from model_runtime.loader import load_engine
from model_runtime.model import Model, Normaliser
from model_runtime.protocol import (
    AddRequest,
    EngineConfig,
    MediaSpan,
    SamplingParams,
    SequenceOutput,
    TileSet,
)
from model_runtime.scheduler import ScheduledSequence, ScheduledStep
from model_runtime.sequence import Sequence

GREEDY = SamplingParams(max_tokens=12, temperature=0.0)


def make_core(folder: Path, **options: object) -> EngineCore:
    config = EngineConfig(checkpoint_path=str(folder), device="cpu", **options)  # type: ignore[arg-type]
    core, _ = load_engine(config)
    return core


@dataclass
class Result:
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    error: str | None = None
    num_cached_tokens: int = 0


def run_until_idle(core: EngineCore, results: dict[str, Result], max_steps: int = 10_000) -> None:
    """Step until nothing is left, collecting outputs and checking the books after each step."""
    for _ in range(max_steps):
        if not core.has_work:
            return
        collect(core.step().outputs, results)
        core.check()
    raise AssertionError("the engine did not come to rest")


def collect(outputs: list[SequenceOutput], results: dict[str, Result]) -> None:
    for output in outputs:
        result = results.setdefault(output.request_id, Result())
        assert result.finish_reason is None, "an output after the end"
        result.token_ids += output.new_token_ids
        result.finish_reason = output.finish_reason
        result.error = output.error
        result.num_cached_tokens = output.num_cached_tokens


class PromptMaker:
    """Random prompts of text, images (1 to 7 tiles) and videos (frames of one tile)."""

    def __init__(self, checkpoint: Checkpoint, seed: int, max_frames: int = 8) -> None:
        self._checkpoint = checkpoint
        self._max_frames = max_frames
        self._random = random.Random(seed)
        self._pixels = np.random.default_rng(seed)

    def request(self, request_id: str, kinds: str, sampling: SamplingParams = GREEDY) -> AddRequest:
        """`kinds`: a letter per part; t text, i image, v video."""
        token_ids: list[int] = []
        spans: list[MediaSpan] = []
        tiles: list[TileSet] = []
        for kind in kinds:
            for num_tiles in self._tile_counts(kind):
                tile_set = self._tile_set(num_tiles)
                num_tokens = num_tiles * self._checkpoint.tiles.tokens_per_tile
                token_ids += self._text(2)
                spans.append(MediaSpan(len(token_ids), num_tokens, tile_set.content_hash))
                token_ids += [self._checkpoint.image_token_id] * num_tokens
                tiles.append(tile_set)
            token_ids += self._text(self._random.randint(1, 20))
        return AddRequest(request_id, token_ids, sampling, spans, tiles)

    def _tile_counts(self, kind: str) -> list[int]:
        if kind == "i":
            return [self._random.choice([1, 1, 3, 5, 7])]
        return [1] * self._random.randint(1, self._max_frames) if kind == "v" else []

    def _text(self, length: int) -> list[int]:
        return [self._random.randrange(0, 300) for _ in range(length)]

    def _tile_set(self, num_tiles: int) -> TileSet:
        size = self._checkpoint.tiles.tile_height
        pixels = self._pixels.integers(0, 256, (num_tiles, size, size, 3), dtype=np.uint8)
        return TileSet(self._random.randbytes(16), num_tiles, pixels.tobytes())


class Oracle:
    """transformers' own `generate`, one request at a time."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = load_checkpoint(folder, str(folder))
        self._model = InternVLForConditionalGeneration.from_pretrained(folder).eval()

    @torch.inference_mode()
    def generate(self, request: AddRequest) -> list[int]:
        input_ids = torch.tensor([request.token_ids])
        output = self._model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            **self._pixel_values(request),
            max_new_tokens=request.sampling.max_tokens,
            do_sample=False,
        )
        tokens: list[int] = output[0, input_ids.shape[1] :].tolist()
        return tokens

    def _pixel_values(self, request: AddRequest) -> dict[str, torch.Tensor]:
        if not request.spans:
            return {}
        size = self.checkpoint.tiles.tile_height
        by_hash = {tiles.content_hash: tiles for tiles in request.tiles}
        parts = [
            np.frombuffer(by_hash[span.content_hash].pixels, np.uint8).reshape(-1, size, size, 3)
            for span in request.spans
        ]
        pixels = torch.from_numpy(np.concatenate(parts))
        return {"pixel_values": Normaliser(self.checkpoint.tiles, pixels.device)(pixels)}


@torch.inference_mode()
def prompt_logits(
    model: Model, token_ids: list[int], start: int, pixels: torch.Tensor
) -> torch.Tensor:
    """Logits of every prompt position; the tiles' embeddings stand from `start` on."""
    request = AddRequest("r", token_ids, GREEDY)
    sequence = Sequence(request, 0)
    sequence.block_table = list(range(-(-len(token_ids) // 16)))
    step = ScheduledStep(prefills=[ScheduledSequence(sequence, 0, len(token_ids), samples=True)])
    batch = build_batch(step, 16, len(sequence.block_table), model.device)
    cache = KVCache(model.kv_geometry, len(sequence.block_table), 16, model.device)
    embeddings = model.embed(batch.input_ids)
    features = model.encode_tiles(pixels).flatten(0, 1)
    embeddings[start : start + len(features)] = features
    return model.logits(model.forward(embeddings, batch, cache))
