"""No process outlives its front end (rows F09, F48, F49 of the fault table)."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.engine.client import WorkerEngine
from server.prompt.builder import PromptBuilder
from tests.server.engine.driving import is_running, make_engine, running, until, worker_pid
from tests.server.engine.faulty_worker import VARIABLE


@pytest.fixture
def server() -> "Iterator[subprocess.Popen[bytes]]":
    """The product, just started."""
    process = subprocess.Popen([sys.executable, "-m", "server", "serve", "--port", "0"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def children(pid: int) -> dict[int, str]:
    """Command lines by process id."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for path in found for child in path.read_text().split()]
    lines = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in pids}
    return {child: line.replace(b"\0", b" ").decode() for child, line in lines.items()}


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def has_worker(server: "subprocess.Popen[bytes]") -> bool:
    return any("model_runtime.worker" in line for line in children(server.pid).values())


@pytest.mark.parametrize("state", ["loading", "idle", "stopped"])
def test_f09_the_front_end_is_killed(server: "subprocess.Popen[bytes]", state: str) -> None:
    """`stopped` stands for every process that is in the middle of something."""
    wait_for(lambda: has_worker(server), 30)
    if state != "loading":
        time.sleep(5)
    offspring = children(server.pid)
    assert sum("server.media.decoder" in line for line in offspring.values()) >= 1
    if state == "stopped":
        for pid in offspring:
            os.kill(pid, signal.SIGSTOP)
    server.kill()
    patience = 6 if state == "loading" else 2  # some may not have got as far as asking for it
    wait_for(lambda: not any(is_running(pid) for pid in offspring), patience)


async def test_f49_the_end_while_loading(
    tiny_checkpoint: Path,
    prompts: PromptBuilder,
    with_faults: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "60")
    engine = make_engine(tiny_checkpoint, prompts)
    starting = asyncio.create_task(engine.start())
    await until(lambda: engine._workers.pid is not None, "no worker")
    await asyncio.sleep(3)
    pid, started = worker_pid(engine), time.monotonic()
    await engine.stop()
    assert time.monotonic() - started < 5 and not is_running(pid)
    starting.cancel()


async def test_f48_the_end_of_a_stopped_worker(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    async with running(make_engine(tiny_checkpoint, prompts)) as engine:
        pid = _stop_signal(engine)
        started = time.monotonic()
    assert time.monotonic() - started < 5 and not is_running(pid)


def _stop_signal(engine: WorkerEngine) -> int:
    pid = worker_pid(engine)
    os.kill(pid, signal.SIGSTOP)
    return pid
