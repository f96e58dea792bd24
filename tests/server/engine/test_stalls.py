"""Workers that are stuck are replaced, those that are busy are not (rows F03, F04, F05, F06, F52,
F54 of the fault table)."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from model_runtime.pulse import Pulse, open_memory
from server.engine import watchdog
from server.engine.watchdog import Watchdog
from server.prompt.builder import PromptBuilder
from tests.server.engine.driving import (
    LONG,
    assert_as_before,
    hit,
    make_engine,
    outcome,
    read,
    request,
    running,
    until,
    until_down,
    worker_pid,
)

pytestmark = pytest.mark.alone


async def test_f03_stopped_with_work(tiny_checkpoint: Path, prompts: PromptBuilder) -> None:
    async with running(make_engine(tiny_checkpoint, prompts, stall_timeout_s=2)) as engine:
        stream = engine.submit(request(prompts, "a", LONG))
        await anext(stream)
        hit(engine, signal.SIGSTOP)
        unseen = engine.submit(request(prompts, "b"))
        assert 1.5 < await until_down(engine) < 4
        assert await outcome(stream) == "engine_crashed"
        assert await outcome(unseen) == "length"
        await assert_as_before(engine, prompts)
        assert engine.counts().num_worker_restarts == 1


async def test_f04_stopped_while_idle(
    tiny_checkpoint: Path, prompts: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not ready soon, replaced later."""
    monkeypatch.setattr(watchdog, "IDLE_SILENCE_S", 2.0)
    async with running(make_engine(tiny_checkpoint, prompts, stall_timeout_s=4)) as engine:
        await asyncio.sleep(3)
        assert engine.health().is_ready  # an idle worker beats
        pid = hit(engine, signal.SIGSTOP)
        assert 1 < await until_down(engine) < 4
        assert engine.health().reason == "the worker is stalled" and worker_pid(engine) == pid
        await until(lambda: engine._workers.pid not in (pid, None), "not replaced")
        await assert_as_before(engine, prompts)


async def test_f05_a_long_step_is_no_stall(
    tiny_checkpoint: Path,
    prompts: PromptBuilder,
    with_faults: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when nobody waits for it any more; and the next one may be longer."""
    monkeypatch.setattr(watchdog, "IDLE_SILENCE_S", 1.5)
    async with running(make_engine(tiny_checkpoint, prompts, stall_timeout_s=4)) as engine:
        for name in ("sleep 3 in prefill", "sleep 6 in prefill"):  # 6 s are less than 4 * 3 s
            stream = engine.submit(request(prompts, name))
            reading = asyncio.create_task(outcome(stream))
            while not reading.done():
                assert engine.health().is_ready
                await asyncio.sleep(0.1)
            assert await reading == "length"
        engine.submit(request(prompts, "sleep 3 in prefill")).abort()
        for _ in range(25):
            await asyncio.sleep(0.1)
            assert engine.health().is_ready
        await assert_as_before(engine, prompts)
        assert engine.counts().num_worker_restarts == 0


async def test_f06_f54_pauses_are_no_stalls(tiny_checkpoint: Path, prompts: PromptBuilder) -> None:
    """Neither the front end's own nor a short one of the worker."""
    async with running(make_engine(tiny_checkpoint, prompts, stall_timeout_s=1.5)) as engine:
        stream = engine.submit(request(prompts, "a", LONG))
        await anext(stream)
        time.sleep(2.5)  # noqa: ASYNC251
        await asyncio.sleep(0.6)
        assert engine.health().is_ready
        pid = hit(engine, signal.SIGSTOP)
        await asyncio.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
        assert (await read(stream))[2] == "length"
        assert engine.counts().num_worker_restarts == 0
        await assert_as_before(engine, prompts)


@pytest.fixture
def pulse() -> Pulse:
    descriptor = open_memory()
    try:
        return Pulse(descriptor)
    finally:
        os.close(descriptor)


def test_f52_time_in_which_nobody_looked_does_not_count(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that slept, a stopped container, a clock that jumps."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    dog = Watchdog(pulse, stall_timeout_s=10)
    now += 3600
    dog.look()
    assert dog.silence_s <= 1 and not dog.is_stalled
    for _ in range(30):
        now += 0.5
        dog.look()
    assert dog.is_stalled
    pulse.beat()
    dog.look()
    assert not dog.is_stalled and dog.silence_s == 0


def test_patience_grows_with_the_longest_step(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    dog = Watchdog(pulse, stall_timeout_s=10)
    dog.on_step(4.0)
    silences = []
    while not dog.is_stalled:
        now += 0.5
        dog.look()
        silences.append(dog.silence_s)
    assert silences[-1] == 16.5


def test_a_pulse_is_seen_by_both_sides_and_names_suspects(pulse: Pulse) -> None:
    descriptor = open_memory()
    worker, front_end = Pulse(descriptor), Pulse(descriptor)
    os.close(descriptor)
    assert front_end.num_turns == 0 and not front_end.is_idle and not front_end.blamed
    worker.beat()
    worker.rest(True)
    worker.blame(["a", "b"])
    assert front_end.num_turns == 1 and front_end.is_idle and front_end.blamed == {"a", "b"}
    worker.blame(f"request {i}" * 100 for i in range(1000))  # more than there is room for
    assert "request 0" * 100 in front_end.blamed
    worker.blame([])
    assert not front_end.blamed
