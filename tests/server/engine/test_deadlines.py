"""A request whose time is over fails and gives everything back, wherever it is (P6, row F43)."""

import asyncio
import time
from pathlib import Path

import pytest

from model_runtime.protocol import StepStats
from server.engine.client import WorkerEngine
from server.errors import DeadlineExceededError
from server.prompt.builder import PromptBuilder
from tests.server.engine.driving import (
    LONG,
    SHORT,
    assert_as_before,
    hit,
    make_engine,
    outcome,
    read,
    request,
    running,
    until,
    until_down,
)

pytestmark = pytest.mark.alone  # it takes its times from the clock


async def test_while_it_is_decoded(engine: WorkerEngine, prompts: PromptBuilder) -> None:
    started = time.monotonic()
    stream = engine.submit(request(prompts, "a", LONG, seconds=0.3))
    with pytest.raises(DeadlineExceededError) as caught:
        await read(stream)
    assert 0.25 < time.monotonic() - started < 1
    assert caught.value.status == 504 and caught.value.code == "deadline_exceeded"
    stats = engine.health().stats
    assert stats is not None
    last_step = stats.step
    await assert_as_before(engine, prompts)
    after = engine.health().stats
    assert after is not None and after.step - last_step < 200  # not run to its 1500 tokens


async def test_before_it_is_sent(engine: WorkerEngine, prompts: PromptBuilder) -> None:
    with pytest.raises(DeadlineExceededError):
        engine.submit(request(prompts, "a", seconds=-0.1))
    await assert_as_before(engine, prompts)


async def test_it_does_not_disturb_who_was_in_time(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    stream = engine.submit(request(prompts, "a", SHORT, seconds=5))
    assert (await read(stream))[2] == "length"
    assert not [h for h in asyncio.get_running_loop()._scheduled if _is_deadline(h)]  # type: ignore[attr-defined]


def _is_deadline(handle: asyncio.TimerHandle) -> bool:
    return not handle.cancelled() and "_expire" in repr(handle)


async def test_f43_a_queue_whose_time_is_over_is_not_served(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    steps: list[StepStats] = []
    engine = make_engine(tiny_checkpoint, prompts, max_num_seqs=1, on_step=steps.append)
    async with running(engine):
        runs = engine.submit(request(prompts, "runs", LONG))
        await anext(runs)
        steps.clear()
        streams = [engine.submit(request(prompts, f"q{i}", seconds=0.3)) for i in range(20)]
        assert await asyncio.gather(*map(outcome, streams)) == ["deadline_exceeded"] * 20
        await until(lambda: steps[-1].num_waiting == 0, "they still wait")
        runs.abort()
        await until(lambda: steps[-1].num_running == 0, "it still runs")
        assert sum(step.num_prefill_tokens for step in steps) == 0
        await assert_as_before(engine, prompts)


async def test_while_there_is_no_worker(engine: WorkerEngine, prompts: PromptBuilder) -> None:
    """It waits for the next one, but not for ever, and is not sent then."""
    stream = engine.submit(request(prompts, "a", LONG, seconds=0.3))
    hit(engine)
    await until_down(engine)
    assert await outcome(stream) in ("deadline_exceeded", "engine_crashed")
    await assert_as_before(engine, prompts)


async def test_in_a_long_step(
    tiny_checkpoint: Path, prompts: PromptBuilder, with_faults: None
) -> None:
    """The answer is prompt; the blocks follow when the step is over."""
    async with running(make_engine(tiny_checkpoint, prompts)) as engine:
        started = time.monotonic()
        stream = engine.submit(request(prompts, "sleep 2 in prefill", seconds=0.5))
        assert await outcome(stream) == "deadline_exceeded"
        assert time.monotonic() - started < 1.5
        await assert_as_before(engine, prompts)
