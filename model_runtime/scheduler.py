"""Decides what each step computes: who runs, how many tokens, which tiles. No tensors.

Decodes go first (one token each), then prompts in chunks under the token budget. When blocks
run out, the sequence of highest rank number (lowest priority, then latest arrival) gives its
blocks back and is computed again later, from the prefix cache as far as that still holds.
"""

import time
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from model_runtime.block_pool import BlockPool
from model_runtime.protocol import MediaSpan, TileSet
from model_runtime.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """The tokens `[start, start + num_tokens)` of a sequence are computed in this step."""

    sequence: Sequence
    start: int
    num_tokens: int
    samples: bool  # the last known token is computed, so the next one can be picked

    @property
    def end(self) -> int:
        return self.start + self.num_tokens


@dataclass(frozen=True, slots=True)
class ScheduledTiles:
    """The tiles `[start, end)` of a picture are encoded in this step."""

    tiles: TileSet
    start: int
    end: int


@dataclass(slots=True)
class ScheduledStep:
    """One step's work: tiles to encode first, then prompt chunks, then decodes."""

    prefills: list[ScheduledSequence] = field(default_factory=list)
    decodes: list[ScheduledSequence] = field(default_factory=list)
    tiles: dict[bytes, ScheduledTiles] = field(default_factory=dict)

    @property
    def sequences(self) -> list[ScheduledSequence]:
        return self.prefills + self.decodes

    @property
    def num_tiles(self) -> int:
        return sum(part.end - part.start for part in self.tiles.values())


class Scheduler:
    """Owns the waiting and the running sequences and the block tables of both.

    `num_encoded_tokens` tells how many of a picture's tokens have their embeddings; `scrub`
    wipes blocks.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_tiles_per_step: int,
        num_encoded_tokens: Callable[[bytes], int],
        scrub: Callable[[list[int]], None],
    ) -> None:
        assert max_num_batched_tokens >= max_num_seqs, "a step must hold one token per sequence"
        self.pool = pool
        self.waiting: list[Sequence] = []  # sorted by rank
        self.running: list[Sequence] = []  # sorted by rank
        self.num_preemptions = 0
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._max_tiles_per_step = max_tiles_per_step
        self._num_encoded_tokens = num_encoded_tokens
        self._scrub = scrub

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def sequences(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def add(self, sequence: Sequence) -> None:
        insort(self.waiting, sequence, key=_rank)

    def remove(self, sequence: Sequence) -> None:
        """Finished or aborted: give the blocks back and forget the sequence."""
        self._give_back(sequence)
        (self.running if sequence.is_running else self.waiting).remove(sequence)
        sequence.is_running = False

    def advance(self, step: ScheduledStep) -> None:
        """The step is under way: what is scheduled next comes after it."""
        for chunk in step.sequences:
            chunk.sequence.num_computed_tokens = chunk.end

    def publish(self, chunk: ScheduledSequence) -> None:
        """The chunk has its KV: blocks that became full can be shared from now on."""
        sequence, size = chunk.sequence, self.pool.block_size
        first, last = chunk.start // size, chunk.end // size
        if first == last or not sequence.is_running:
            return
        names = sequence.name_blocks(chunk.end, size)
        for i in range(first, last):
            self.pool.publish(sequence.block_table[i], names[i])

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
        if not sequence.is_running or budget <= 0:  # preempted for an earlier one, or full
            return 0
        if sequence.is_full_length:  # only its newest token is not known yet
            return 0
        start = sequence.num_computed_tokens
        end = min(sequence.num_tokens, start + budget)
        end = self._plan_tiles(sequence, start, end, step)
        if end == start or not self._make_room(sequence, end, step):
            return 0
        chunk = ScheduledSequence(sequence, start, end - start, end == sequence.num_tokens)
        (step.decodes if sequence.is_decoding else step.prefills).append(chunk)
        return chunk.num_tokens

    def _plan_tiles(self, sequence: Sequence, start: int, end: int, step: ScheduledStep) -> int:
        """Plan the encoding that `[start, end)` needs; where the tile budget ends, so does it.

        A large picture is thus encoded and prefilled over several steps, beside the decodes.
        """
        for span in sequence.spans_between(start, end):
            num_ready = self._num_ready_tokens(sequence, span, step)
            if num_ready < span.num_tokens:
                return min(end, max(start, span.start + num_ready))
        return end

    def _num_ready_tokens(self, sequence: Sequence, span: MediaSpan, step: ScheduledStep) -> int:
        """The span's tokens that have embeddings when this step's tiles are encoded."""
        num_encoded = self._num_encoded_tokens(span.content_hash)
        if num_encoded >= span.num_tokens:
            return num_encoded
        tiles = sequence.tiles[span.content_hash]
        tokens_per_tile = span.num_tokens // tiles.num_tiles
        if span.content_hash not in step.tiles:
            first = num_encoded // tokens_per_tile
            last = min(tiles.num_tiles, first + self._max_tiles_per_step - step.num_tiles)
            if last <= first:
                return num_encoded
            step.tiles[span.content_hash] = ScheduledTiles(tiles, first, last)
        return step.tiles[span.content_hash].end * tokens_per_tile

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
        victim.is_running = False
        self._give_back(victim)
        victim.forget_computed()
        step.prefills = [chunk for chunk in step.prefills if chunk.sequence is not victim]
        step.decodes = [chunk for chunk in step.decodes if chunk.sequence is not victim]
        self.num_preemptions += 1
        victim.num_preemptions += 1
        self.add(victim)

    def _give_back(self, sequence: Sequence) -> None:
        """Blocks whose contents nobody has seen to be finite are wiped before others get them."""
        if not sequence.is_trusted:
            first = max(0, sequence.num_trusted_tokens) // self.pool.block_size
            doubtful = self.pool.withdraw(sequence.block_table[first:])
            if doubtful:
                self._scrub(doubtful)
        self.pool.release(sequence.block_table)

    def _admit_next(self) -> Sequence | None:
        """Move the first waiting sequence to running when a seat and its blocks are free.

        It gets the blocks of all tokens known so far, those of a cached prefix without
        computing them; one block for each running sequence must remain, so that admitting
        does not preempt at once.
        """
        if not self.waiting or len(self.running) >= self._max_num_seqs:
            return None
        first = self.waiting[0]
        known = self._known_prefix(first)
        if self.pool.room_after(known, first.num_tokens) < len(self.running):
            return None
        num_found = self.pool.adopt(first.block_table, known, first.num_tokens)
        assert num_found is not None, "room was promised. This is a bug."
        self._start(self.waiting.pop(0), num_found * self.pool.block_size)
        return first

    def _known_prefix(self, sequence: Sequence) -> list[bytes]:
        """Names of the blocks that may come from the cache; the last token is always computed."""
        if sequence.wants_prompt_logprobs:
            return []
        size, num_before_last = self.pool.block_size, sequence.num_tokens - 1
        return sequence.name_blocks(num_before_last, size)[: num_before_last // size]

    def _start(self, sequence: Sequence, num_cached_tokens: int) -> None:
        sequence.num_computed_tokens = num_cached_tokens
        if not sequence.num_completion_tokens:
            sequence.num_cached_tokens = num_cached_tokens
        sequence.scheduled_s = sequence.scheduled_s or time.monotonic()
        sequence.is_running = True
        insort(self.running, sequence, key=_rank)


def _rank(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.rank
