"""The scheduler alone: no model, no tensors."""

from hypothesis import given
from hypothesis import strategies as st

from model_runtime.block_pool import BlockPool
from model_runtime.protocol import AddRequest, MediaSpan, SamplingParams, TileSet
from model_runtime.scheduler import ScheduledStep, Scheduler
from model_runtime.sequence import Sequence


def make_scheduler(num_blocks: int = 64, **options: int) -> Scheduler:
    limits = {"max_num_seqs": 4, "max_num_batched_tokens": 32, "max_tiles_per_step": 4, **options}
    return Scheduler(
        BlockPool(num_blocks, 4), num_encoded_tokens=lambda _: 0, scrub=lambda _: None, **limits
    )


def make_sequence(
    num_tokens: int, arrival: int = 0, priority: int = 0, images: dict[int, int] | None = None
) -> Sequence:
    """`images`: start → tiles, two tokens a tile."""
    spans, tiles = [], []
    for start, num_tiles in (images or {}).items():
        content_hash = f"{arrival}-{start}".encode()
        spans.append(MediaSpan(start, 2 * num_tiles, content_hash))
        tiles.append(TileSet(content_hash, num_tiles, b""))
    request = AddRequest(
        f"r{arrival}", [7] * num_tokens, SamplingParams(max_tokens=99), spans, tiles, priority
    )
    return Sequence(request, arrival)


def commit(step: ScheduledStep) -> None:
    """What the core does after a step, without a model and without the prefix cache."""
    for chunk in step.sequences:
        chunk.sequence.num_computed_tokens = chunk.end
        if chunk.samples:
            chunk.sequence.append(1)


def publish(scheduler: Scheduler, step: ScheduledStep) -> None:
    scheduler.advance(step)
    for chunk in step.sequences:
        scheduler.publish(chunk)


def names(step: ScheduledStep) -> list[tuple[str, int, int]]:
    return [(c.sequence.request_id, c.start, c.end) for c in step.sequences]


def test_a_long_prompt_is_cut_into_chunks() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(70))
    seen = []
    for _ in range(3):
        step = scheduler.schedule()
        seen += names(step)
        commit(step)
    assert seen == [("r0", 0, 32), ("r0", 32, 64), ("r0", 64, 70)]


def test_decodes_go_first_and_prompts_fill_the_rest() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(3, arrival=0))
    commit(scheduler.schedule())
    scheduler.add(make_sequence(50, arrival=1))
    step = scheduler.schedule()
    assert [c.sequence.request_id for c in step.decodes] == ["r0"]
    assert names(step) == [("r1", 0, 31), ("r0", 3, 4)]


def test_lower_priority_number_runs_first() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    scheduler.add(make_sequence(4, arrival=0, priority=5))
    scheduler.add(make_sequence(4, arrival=1, priority=1))
    assert names(scheduler.schedule()) == [("r1", 0, 4)]


def test_the_latest_gives_its_blocks_back_when_they_run_out() -> None:
    scheduler = make_scheduler(num_blocks=5)
    first, second = make_sequence(8, arrival=0), make_sequence(7, arrival=1)
    scheduler.add(first)
    scheduler.add(second)
    commit(scheduler.schedule())
    while scheduler.num_preemptions == 0:
        commit(scheduler.schedule())
    assert second in scheduler.waiting and second.num_computed_tokens == 0
    assert second.num_completion_tokens > 0  # what was sampled is kept
    assert first in scheduler.running
    scheduler.pool.check(s.block_table for s in scheduler.sequences())


def tile_names(step: ScheduledStep) -> list[tuple[int, int]]:
    return [(part.start, part.end) for part in step.tiles.values()]


def test_a_chunk_ends_where_the_tile_budget_ends() -> None:
    """Four tiles: the first picture's three and one of the second's, and its tokens with it."""
    scheduler = make_scheduler()
    scheduler.add(make_sequence(28, images={2: 3, 12: 3}))
    step = scheduler.schedule()
    assert names(step) == [("r0", 0, 14)] and tile_names(step) == [(0, 3), (0, 1)]


def test_a_large_picture_is_encoded_over_several_steps() -> None:
    scheduler = make_scheduler()
    sequence = make_sequence(28, images={2: 9})
    encoded = {sequence.spans[0].content_hash: 0}
    scheduler._num_encoded_tokens = encoded.__getitem__
    scheduler.add(sequence)
    seen = []
    while sequence.num_uncomputed_tokens:
        step = scheduler.schedule()
        seen.append((*names(step)[0][1:], *tile_names(step)))
        for content_hash, part in step.tiles.items():
            encoded[content_hash] = 2 * part.end
        commit(step)
        if not sequence.num_uncomputed_tokens or sequence.num_completion_tokens:
            break
    assert seen == [(0, 10, (0, 4)), (10, 18, (4, 8)), (18, 28, (8, 9))]


def test_a_large_picture_does_not_hold_up_decodes() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(3, arrival=0))
    commit(scheduler.schedule())
    scheduler.add(make_sequence(28, arrival=1, images={2: 9}))
    step = scheduler.schedule()
    assert [c.sequence.request_id for c in step.decodes] == ["r0"]
    assert step.num_tiles == 4


def test_a_computed_prefix_is_taken_from_the_cache() -> None:
    scheduler = make_scheduler()
    first, second = make_sequence(11, arrival=0), make_sequence(11, arrival=1)
    scheduler.add(first)
    step = scheduler.schedule()
    publish(scheduler, step)
    scheduler.add(second)
    step = scheduler.schedule()
    assert [c.start for c in step.prefills] == [8] and second.num_cached_tokens == 8
    assert first.block_table[:2] == second.block_table[:2]
    assert first.block_table[2] != second.block_table[2]


def test_the_last_token_is_always_computed() -> None:
    """Its logits are needed, even when all of its block is known."""
    scheduler = make_scheduler()
    scheduler.add(make_sequence(8, arrival=0))
    publish(scheduler, scheduler.schedule())
    scheduler.add(make_sequence(8, arrival=1))
    assert [c.start for c in scheduler.schedule().prefills] == [4]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    num_blocks=st.integers(13, 40),
    budget=st.integers(4, 48),
)
def test_every_sequence_finishes_within_the_budget(
    lengths: list[int], num_blocks: int, budget: int
) -> None:
    """No livelock, no leak, no step over budget, each token computed in order."""
    scheduler = make_scheduler(num_blocks, max_num_batched_tokens=budget)
    for arrival, length in enumerate(lengths):
        scheduler.add(make_sequence(length, arrival))
    for _ in range(2_000):
        if not scheduler.has_work:
            break
        step = scheduler.schedule()
        assert 0 < sum(chunk.num_tokens for chunk in step.sequences) <= budget
        for chunk in step.sequences:
            assert chunk.start == chunk.sequence.num_computed_tokens
        commit(step)
        for sequence in list(scheduler.running):
            if sequence.num_completion_tokens >= 8:
                scheduler.remove(sequence)
        scheduler.pool.check(s.block_table for s in scheduler.sequences())
    assert not scheduler.has_work
