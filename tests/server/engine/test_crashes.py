"""Workers that die, at each moment of their life. After each: everything as before.

Rows F01, F02, F07, F12, F13, F53, F56 and F59 of the fault table.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.engine.client import WorkerEngine
from server.engine.supervisor import WorkerLoadError
from server.errors import EngineError, QuarantinedError, UnavailableError
from server.prompt.builder import PromptBuilder
from tests.server.engine.driving import (
    LONG,
    assert_as_before,
    hit,
    make_engine,
    outcome,
    picture_request,
    read,
    request,
    running,
    until,
    until_down,
    until_ready,
    worker_pid,
)


@pytest.fixture
async def faulty(
    tiny_checkpoint: Path, prompts: PromptBuilder, with_faults: None
) -> AsyncIterator[WorkerEngine]:
    async with running(make_engine(tiny_checkpoint, prompts, max_num_seqs=8)) as engine:
        yield engine


async def test_f01_killed_while_idle(engine: WorkerEngine, prompts: PromptBuilder) -> None:
    num_open = len(os.listdir("/proc/self/fd"))
    pid = hit(engine)
    assert await until_down(engine) < 1.0
    with pytest.raises(UnavailableError):
        engine.submit(request(prompts, "too early"))
    await assert_as_before(engine, prompts)
    assert engine.counts().num_worker_restarts == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # F59: not even a zombie
    assert len(os.listdir("/proc/self/fd")) == num_open  # F56: nor shared memory


async def test_f02_f53_killed_with_streams_and_a_queue(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    """The streams end with an error; what was queued is answered by the next worker."""
    async with running(make_engine(tiny_checkpoint, prompts, max_num_seqs=8)) as engine:
        expected = await read(engine.submit(request(prompts, "alone")))
        streams = [engine.submit(request(prompts, f"s{i}", LONG)) for i in range(8)]
        for stream in streams:
            await anext(stream)
        queued = [engine.submit(request(prompts, f"q{i}")) for i in range(4)]
        hit(engine)
        assert await asyncio.gather(*map(outcome, streams)) == ["engine_crashed"] * 8
        assert await asyncio.gather(*map(read, queued)) == [expected] * 4
        await assert_as_before(engine, prompts)
        assert engine.counts().num_worker_restarts == 1


async def test_what_the_worker_never_saw_is_sent_again(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    """And what its client gave up meanwhile is not."""
    expected = await read(engine.submit(request(prompts, "first")))
    hit(engine, signal.SIGSTOP)  # nothing is answered any more
    stream, gone = (engine.submit(request(prompts, name)) for name in ("a", "gone"))
    hit(engine)
    await until_down(engine)
    gone.abort()
    assert await read(stream) == expected
    await assert_as_before(engine, prompts)


async def test_nothing_is_sent_a_third_time(
    engine: WorkerEngine, prompts: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = engine.submit(request(prompts, "a"))
    hit(engine)
    send_again = engine._send_whole

    def die(unlucky: object) -> None:
        hit(engine)
        send_again(unlucky)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "_send_whole", die)
    with pytest.raises(EngineError):
        await read(stream)
    monkeypatch.undo()
    await assert_as_before(engine, prompts)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
async def test_f12_a_request_that_kills_is_failed_and_nobody_else(
    faulty: WorkerEngine, prompts: PromptBuilder, phase: str
) -> None:
    waiting = request(prompts, "sleep 0.3 in prefill")
    before = faulty.submit(waiting)  # the others arrive while this step runs
    poison = faulty.submit(request(prompts, f"die in {phase}"))
    others = [faulty.submit(request(prompts, f"o{i}", text="Bye")) for i in range(9)]
    ends = await asyncio.gather(*map(outcome, [poison, before, *others]))
    assert ends[0] == "engine_crashed"
    assert set(ends[1:]) <= {"length", "engine_crashed"}
    assert ends[-2:] == ["length", "length"]  # there was no seat for them yet
    await assert_as_before(faulty, prompts)
    assert faulty.counts().num_worker_restarts == 1


async def test_f12_what_has_killed_twice_is_refused(
    faulty: WorkerEngine, prompts: PromptBuilder
) -> None:
    """By its media, whatever is asked about them."""
    for number in range(2):
        poison = picture_request(prompts, f"die in prefill#{number}", f"Ask {number}")
        assert await outcome(faulty.submit(poison)) == "engine_crashed"
        await until_ready(faulty)
    with pytest.raises(QuarantinedError):
        faulty.submit(picture_request(prompts, "third", "Something else"))
    other = picture_request(prompts, "other", content_hash=b"another picture")
    assert (await read(faulty.submit(other)))[1] == 4
    await assert_as_before(faulty, prompts)


async def test_f12_a_text_that_has_killed_twice_is_refused(
    faulty: WorkerEngine, prompts: PromptBuilder
) -> None:
    for number in range(2):
        poison = request(prompts, f"die in prefill#{number}", text="Poison")
        assert await outcome(faulty.submit(poison)) == "engine_crashed"
        await until_ready(faulty)
    with pytest.raises(QuarantinedError):
        faulty.submit(request(prompts, "third", text="Poison"))
    await assert_as_before(faulty, prompts)


async def test_f13_three_crashes_are_the_end(
    engine: WorkerEngine, prompts: PromptBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        hit(engine)
        await until_down(engine)
        assert engine.health().is_alive
        await until_ready(engine)
    stream = engine.submit(request(prompts, "a", LONG))
    hit(engine)
    await until(lambda: not engine.health().is_alive, "still alive")
    health = engine.health()
    assert not health.is_ready and "too often" in str(health.reason)
    assert await outcome(stream) in ("engine_crashed", "engine_error")
    with pytest.raises(UnavailableError, match="too often"):
        engine.submit(request(prompts, "b"))
    assert any(record.levelname == "CRITICAL" for record in caplog.records)
    await asyncio.sleep(0.1)
    assert engine._workers.pid is None and engine.counts().num_worker_restarts == 2


async def test_f07_killed_while_loading_is_tried_again(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    engine = make_engine(tiny_checkpoint, prompts)
    starting = asyncio.create_task(engine.start())
    await until(lambda: engine._workers.pid is not None, "no worker")
    await asyncio.sleep(0.5)
    hit(engine)
    try:
        assert (await starting).model_id == "tiny"
        await assert_as_before(engine, prompts)
        assert engine.counts().num_worker_restarts == 1
    finally:
        await engine.stop()


async def test_f07_dying_three_times_while_loading_is_told(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    engine = make_engine(tiny_checkpoint, prompts)
    starting = asyncio.create_task(engine.start())
    killed: set[int] = set()
    while not starting.done():
        pid = engine._workers.pid
        if pid is not None and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)
    with pytest.raises(WorkerLoadError, match="three times"):
        await starting
    assert len(killed) == 3 and not engine.health().is_alive
    await engine.stop()


async def test_stopping_fails_what_still_waits(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    hit(engine, signal.SIGSTOP)
    stream = engine.submit(request(prompts, "a"))
    hit(engine)
    await until_down(engine)
    await engine.stop()
    with pytest.raises(EngineError):
        await read(stream)


async def test_the_worker_ends_with_its_front_end(engine: WorkerEngine) -> None:
    pid = worker_pid(engine)
    await engine.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
