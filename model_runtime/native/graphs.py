"""Decode steps and tile batches in fixed shapes, each captured once and replayed.

Small models are bound by the number of kernels that the host launches; a CUDA graph launches
them all at once. A graph's shapes and addresses are fixed, so there is one for each bucket of
batch sizes, with inputs of its own; rows that only pad write no keys and attend to nothing.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from model_runtime.batch import Batch

Run = Callable[[], torch.Tensor]
NO_SLOT = -1  # writes nothing to the KV cache


def capture_cuda_graph(run: Run) -> Run:
    """Run once to warm up, record, and return what replays the record."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay


def decode_buckets(max_num_seqs: int) -> list[int]:
    """1, 2, 4, 8, then in steps of 8 up to 64 and of 32 beyond."""
    sizes = [1, 2, 4, *range(8, 65, 8), *range(96, max_num_seqs + 32, 32)]
    return [size for size in sizes if size < max_num_seqs] + [max_num_seqs]


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The largest batch of decodes, and the longest block table in it."""

    max_num_seqs: int
    max_num_blocks: int
    block_size: int


@dataclass(frozen=True, slots=True)
class _Bucket:
    batch: Batch  # of fixed tensors
    replay: Run


class DecodeGraphs:
    """Logits of steps that only decode."""

    def __init__(
        self, run: Callable[[Batch], torch.Tensor], limits: DecodeLimits, device: torch.device
    ) -> None:
        """`run`: a batch of decodes to its logits."""
        self._limits = limits
        self._device = device
        self._sizes = decode_buckets(limits.max_num_seqs)
        self._buckets = {size: self._capture(run, size) for size in reversed(self._sizes)}

    def __call__(self, batch: Batch) -> torch.Tensor:
        """`[num_decodes, vocab_size]`; valid until the next call."""
        num_rows = len(batch.input_ids)
        bucket = self._buckets[self._sizes[bisect_left(self._sizes, num_rows)]]
        _fill(bucket.batch, batch)
        return bucket.replay()[:num_rows]

    def _capture(self, run: Callable[[Batch], torch.Tensor], size: int) -> _Bucket:
        batch = self._make_batch(size)
        return _Bucket(batch, capture_cuda_graph(lambda: run(batch)))

    def _make_batch(self, size: int) -> Batch:
        def zeros(*shape: int, dtype: torch.dtype = torch.long) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=self._device)

        return Batch(
            input_ids=zeros(size),
            positions=zeros(size),
            slot_mapping=zeros(size) + NO_SLOT,
            prefills=[],
            decode_start=0,
            decode_block_table=zeros(size, self._limits.max_num_blocks, dtype=torch.int32),
            decode_context_lens=zeros(size, dtype=torch.int32),
            sample_rows=torch.arange(size, device=self._device),
            block_size=self._limits.block_size,
        )


def _fill(fixed: Batch, batch: Batch) -> None:
    """Copy a step's decodes into the first rows; the others pad."""
    num_rows, width = batch.decode_block_table.shape
    for name in ("input_ids", "positions", "slot_mapping", "decode_context_lens"):
        getattr(fixed, name)[:num_rows].copy_(getattr(batch, name), non_blocking=True)
    fixed.decode_block_table[:num_rows, :width].copy_(batch.decode_block_table, non_blocking=True)
    fixed.slot_mapping[num_rows:] = NO_SLOT
    fixed.decode_context_lens[num_rows:] = 0


class TileGraphs:
    """Embeddings of tiles, in batches of fixed sizes; the last ones of a batch may only pad."""

    def __init__(
        self,
        run: Callable[[torch.Tensor], torch.Tensor],
        *,
        tile_shape: tuple[int, int, int],
        max_num_tiles: int,
        device: torch.device,
    ) -> None:
        """`run`: uint8 `[num_tiles, *tile_shape]` to embeddings."""
        self._sizes = sorted({*(1 << i for i in range(max_num_tiles.bit_length())), max_num_tiles})
        self._pixels: dict[int, torch.Tensor] = {}
        self._replays: dict[int, Run] = {}
        for size in reversed(self._sizes):
            pixels = torch.zeros((size, *tile_shape), dtype=torch.uint8, device=device)
            self._pixels[size] = pixels
            self._replays[size] = capture_cuda_graph(partial(run, pixels))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """`[num_tiles, height, width, 3]` → `[num_tiles, ...]`; valid until the next call."""
        size = self._sizes[bisect_left(self._sizes, len(pixels))]
        self._pixels[size][: len(pixels)].copy_(pixels, non_blocking=True)
        return self._replays[size]()[: len(pixels)]
