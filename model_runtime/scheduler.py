"""Decides what each step computes: who runs, how many tokens, which tiles. No tensors.

Decodes go first (one token each), then prompts in chunks under the token budget. When blocks
run out, the sequence of highest rank number (lowest priority, then latest arrival) gives its
blocks back and is computed again later.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from model_runtime.block_pool import BlockPool
from model_runtime.protocol import TileSet
from model_runtime.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """The tokens `[start, start + num_tokens)` of a sequence are computed in this step."""

    sequence: Sequence
    start: int
    num_tokens: int

    @property
    def end(self) -> int:
        return self.start + self.num_tokens

    @property
    def samples(self) -> bool:
        """The last known token is computed, so the next one can be picked."""
        return self.end == self.sequence.num_tokens


@dataclass(slots=True)
class ScheduledStep:
    """One step's work: tiles to encode first, then prompt chunks, then decodes."""

    prefills: list[ScheduledSequence] = field(default_factory=list)
    decodes: list[ScheduledSequence] = field(default_factory=list)
    tiles: dict[bytes, TileSet] = field(default_factory=dict)

    @property
    def sequences(self) -> list[ScheduledSequence]:
        return self.prefills + self.decodes

    @property
    def num_tiles(self) -> int:
        return sum(tiles.num_tiles for tiles in self.tiles.values())


class Scheduler:
    """Owns the waiting and the running sequences and the block tables of both.

    `is_encoded` tells whether a content hash has its embeddings already.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_tiles_per_step: int,
        is_encoded: Callable[[bytes], bool],
    ) -> None:
        assert max_num_batched_tokens >= max_num_seqs, "a step must hold one token per sequence"
        self.pool = pool
        self.waiting: list[Sequence] = []  # sorted by rank
        self.running: list[Sequence] = []  # sorted by rank
        self.num_preemptions = 0
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._max_tiles_per_step = max_tiles_per_step
        self._is_encoded = is_encoded

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def sequences(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)
        self.waiting.sort(key=_rank)

    def remove(self, sequence: Sequence) -> None:
        """Finished or aborted: give the blocks back and forget the sequence."""
        self.pool.release(sequence.block_table)
        (self.running if sequence in self.running else self.waiting).remove(sequence)

    def schedule(self) -> ScheduledStep:
        step = ScheduledStep()
        budget = self._max_num_batched_tokens
        decoding = [sequence for sequence in self.running if sequence.is_decoding]
        prefilling = [sequence for sequence in self.running if not sequence.is_decoding]
        for sequence in decoding + prefilling:
            budget -= self._schedule_running(sequence, step, budget)
        while budget > 0 and (admitted := self._admit_next()):
            budget -= self._schedule_running(admitted, step, budget)
        return step

    def _schedule_running(self, sequence: Sequence, step: ScheduledStep, budget: int) -> int:
        """Put a chunk of `sequence` into the step; returns the tokens it takes."""
        if sequence not in self.running or budget <= 0:  # preempted for an earlier one, or full
            return 0
        start = sequence.num_computed_tokens
        end = min(sequence.num_tokens, start + budget)
        end = self._limit_by_tiles(sequence, start, end, step)
        if end == start or not self._make_room(sequence, end, step):
            return 0
        self._take_tiles(sequence, start, end, step)
        chunk = ScheduledSequence(sequence, start, end - start)
        (step.decodes if sequence.is_decoding else step.prefills).append(chunk)
        return chunk.num_tokens

    def _limit_by_tiles(self, sequence: Sequence, start: int, end: int, step: ScheduledStep) -> int:
        """Cut the chunk before the first media span that the tile budget does not reach.

        A span larger than the whole budget goes alone into a step without other tiles.
        """
        num_tiles, new = step.num_tiles, set(step.tiles)
        for span in sequence.spans_between(start, end):
            if span.content_hash in new or self._is_encoded(span.content_hash):
                continue
            num_tiles += sequence.tiles[span.content_hash].num_tiles
            if num_tiles > self._max_tiles_per_step and new:
                return max(start, span.start)
            new.add(span.content_hash)
        return end

    def _take_tiles(self, sequence: Sequence, start: int, end: int, step: ScheduledStep) -> None:
        for span in sequence.spans_between(start, end):
            if not self._is_encoded(span.content_hash):
                step.tiles[span.content_hash] = sequence.tiles[span.content_hash]

    def _make_room(self, sequence: Sequence, num_tokens: int, step: ScheduledStep) -> bool:
        """Grow the block table, preempting later sequences; False when `sequence` itself went."""
        while not self.pool.grow(sequence.block_table, num_tokens):
            victim = self.running[-1]
            self._preempt(victim, step)
            if victim is sequence:
                return False
        return True

    def _preempt(self, victim: Sequence, step: ScheduledStep) -> None:
        self.running.remove(victim)
        self.pool.release(victim.block_table)
        victim.forget_computed()
        step.prefills = [chunk for chunk in step.prefills if chunk.sequence is not victim]
        step.decodes = [chunk for chunk in step.decodes if chunk.sequence is not victim]
        self.num_preemptions += 1
        self.add(victim)

    def _admit_next(self) -> Sequence | None:
        """Move the first waiting sequence to running when a seat and its blocks are free.

        It gets the blocks of all tokens known so far, and one block for each running sequence
        must remain, so that admitting does not preempt at once.
        """
        if not self.waiting or len(self.running) >= self._max_num_seqs:
            return None
        first = self.waiting[0]
        if self.pool.blocks_for(first.num_tokens) + len(self.running) > self.pool.num_free:
            return None
        self.pool.grow(first.block_table, first.num_tokens)
        self.running.append(self.waiting.pop(0))
        self.running.sort(key=_rank)
        return first


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.rank
