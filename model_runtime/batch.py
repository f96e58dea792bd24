"""Turns a scheduled step into index tensors. All sequences are packed into one row, no padding."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch

from model_runtime.scheduler import ScheduledSequence, ScheduledStep
from model_runtime.sequence import UNKNOWN


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """One sequence's chunk within the packed row.

    Its queries are rows `[row_start, row_end)`; they attend to the first `context_len` tokens
    of the sequence, the last of which is the chunk's own last.
    """

    row_start: int
    row_end: int
    context_len: int
    blocks: torch.Tensor  # [ceil(context_len / block_size)]

    @property
    def num_rows(self) -> int:
        return self.row_end - self.row_start

    @property
    def is_whole_context(self) -> bool:
        """Nothing was computed before: the fresh keys are all there are."""
        return self.num_rows == self.context_len


@dataclass(frozen=True, slots=True)
class VarlenIndex:
    """All prompt chunks as one ragged attention call: where queries and contexts begin."""

    query_starts: torch.Tensor  # [num_chunks + 1] int32
    key_starts: torch.Tensor  # [num_chunks + 1] int32
    max_query_len: int
    max_key_len: int
    context_slots: torch.Tensor | None  # of all contexts; None: the fresh keys are all there are


@dataclass(frozen=True)
class Batch:
    """The index tensors of a step. Rows: the prompt chunks, then one row per decode."""

    input_ids: torch.Tensor  # [num_tokens]
    positions: torch.Tensor  # [num_tokens]
    slot_mapping: torch.Tensor  # [num_tokens]
    prefills: list[PrefillChunk]
    decode_start: int  # row of the first decode
    decode_block_table: torch.Tensor  # [num_decodes, max_blocks] int32
    decode_context_lens: torch.Tensor  # [num_decodes] int32
    sample_rows: torch.Tensor  # [num_sampled] rows whose logits are needed
    block_size: int

    @cached_property
    def varlen(self) -> VarlenIndex:
        """The prompt chunks, for attention that takes them all at once."""
        device = self.input_ids.device
        query_lens = [chunk.num_rows for chunk in self.prefills]
        key_lens = [chunk.context_len for chunk in self.prefills]
        is_fresh = all(chunk.is_whole_context for chunk in self.prefills)
        return VarlenIndex(
            _starts(query_lens, device),
            _starts(key_lens, device),
            max(query_lens),
            max(key_lens),
            None if is_fresh else torch.cat([self._context_slots(c) for c in self.prefills]),
        )

    @cached_property
    def decode_blocks(self) -> torch.Tensor:
        """The block tables of all decodes, one after another."""
        return self.decode_block_table.flatten()

    @cached_property
    def decode_mask(self) -> torch.Tensor:
        """`[num_decodes, 1, 1, max_blocks * block_size]`: which of the tables' tokens there are."""
        width = self.decode_block_table.shape[1] * self.block_size
        positions = torch.arange(width, device=self.decode_context_lens.device)
        return (positions < self.decode_context_lens[:, None])[:, None, None]

    def _context_slots(self, chunk: PrefillChunk) -> torch.Tensor:
        offsets = torch.arange(self.block_size, device=chunk.blocks.device)
        slots = chunk.blocks[:, None] * self.block_size + offsets
        return slots.flatten()[: chunk.context_len]


def build_batch(
    step: ScheduledStep,
    block_size: int,
    padding_block: int,
    device: torch.device,
    last_tokens: torch.Tensor | None = None,
) -> Batch:
    """The tensors for `step`, in the order of `step.sequences`.

    `padding_block`: a block of zeros that fills up short block tables.
    `last_tokens`: what the step before sampled, for tokens that the host does not know yet.
    """
    input_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    sample_rows: list[int] = []
    unknown: list[tuple[int, int]] = []  # (row, row of `last_tokens`)
    for chunk in step.sequences:
        input_ids += chunk.sequence.token_ids[chunk.start : chunk.end]
        positions += range(chunk.start, chunk.end)
        slots += _slots(chunk, block_size)
        if chunk.samples:
            sample_rows.append(len(input_ids) - 1)
        if input_ids[-1] == UNKNOWN:
            unknown.append((len(input_ids) - 1, chunk.sequence.sampled_row))

    def tensor(values: list[int], dtype: torch.dtype = torch.long) -> torch.Tensor:
        return to_device(torch.tensor(values, dtype=dtype), device)

    prefills = _prefill_chunks(step.prefills, block_size, device)
    return Batch(
        input_ids=_fill_in(tensor(input_ids), unknown, last_tokens),
        positions=tensor(positions),
        slot_mapping=tensor(slots),
        prefills=prefills,
        decode_start=prefills[-1].row_end if prefills else 0,
        decode_block_table=to_device(_decode_table(step, padding_block), device),
        decode_context_lens=tensor([chunk.end for chunk in step.decodes], torch.int32),
        sample_rows=tensor(sample_rows),
        block_size=block_size,
    )


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy that the host does not wait for; on the CPU the tensor itself."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _starts(lengths: list[int], device: torch.device) -> torch.Tensor:
    """Where each of the consecutive pieces begins, and where the last one ends."""
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return to_device(starts, device)


def _fill_in(
    input_ids: torch.Tensor, unknown: list[tuple[int, int]], last_tokens: torch.Tensor | None
) -> torch.Tensor:
    """Put tokens that only the device knows in place. An invalid one becomes token 0: its
    sequence ends when the host sees it."""
    if unknown:
        assert last_tokens is not None, "a token is unknown to everybody. This is a bug."
        rows, sources = zip(*unknown, strict=True)
        input_ids[list(rows)] = last_tokens[list(sources)].clamp_min(0)
    return input_ids


def _slots(chunk: ScheduledSequence, block_size: int) -> list[int]:
    table = chunk.sequence.block_table
    if chunk.num_tokens == 1:
        return [table[chunk.start // block_size] * block_size + chunk.start % block_size]
    return [
        table[position // block_size] * block_size + position % block_size
        for position in range(chunk.start, chunk.end)
    ]


def _prefill_chunks(
    chunks: list[ScheduledSequence], block_size: int, device: torch.device
) -> list[PrefillChunk]:
    prefills, row = [], 0
    for chunk in chunks:
        num_blocks = -(-chunk.end // block_size)
        blocks = to_device(torch.tensor(chunk.sequence.block_table[:num_blocks]), device)
        prefills.append(PrefillChunk(row, row + chunk.num_tokens, chunk.end, blocks))
        row += chunk.num_tokens
    return prefills


def _decode_table(step: ScheduledStep, padding_block: int) -> torch.Tensor:
    """The decodes' block tables as a rectangle `[num_decodes, max_blocks]`."""
    tables = [chunk.sequence.block_table for chunk in step.decodes]
    width = max((len(table) for table in tables), default=0)
    rows = [table + [padding_block] * (width - len(table)) for table in tables]
    return torch.tensor(rows, dtype=torch.int32).view(len(tables), width)
