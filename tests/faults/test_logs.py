"""Rows F27 and F60: nobody reads the log, or the disk is full; the server goes on."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from model_runtime.logs import JsonFormatter, UnblockedHandler
from tests.faults.server import RIGHT, ask, free_port, until_ready

ROOT = Path(__file__).parents[2]


def log_lines(handler: logging.Handler, count: int, text: str = "line") -> float:
    """Seconds that it takes."""
    logger = logging.Logger("some")
    logger.addHandler(handler)
    started = time.monotonic()
    for _ in range(count):
        logger.info(text)
    return time.monotonic() - started


def test_f60_lines_that_nobody_reads_are_lost_and_counted() -> None:
    reader, writer = os.pipe()
    handler = UnblockedHandler(writer)
    handler.setFormatter(JsonFormatter())
    assert log_lines(handler, 40_000) < 10
    os.set_blocking(reader, False)
    read = b""
    while handler._lines.unfinished_tasks:
        with suppress(BlockingIOError):
            read += os.read(reader, 1 << 20)
    log_lines(handler, 1, "there is room again")
    handler.flush()
    read += os.read(reader, 1 << 20)
    os.close(reader)
    found = [json.loads(line)["message"] for line in read.splitlines()]
    lost = [int(message.split()[0]) for message in found if message.endswith("were lost")]
    assert found[-1] == "there is room again" and found.count("line") >= 10_000
    assert found.count("line") + sum(lost) == 40_000 and sum(lost) > 20_000


def test_f27_a_full_disk_loses_lines_only() -> None:
    with open("/dev/full", "wb") as full:
        handler = UnblockedHandler(full.fileno())
        assert log_lines(handler, 100) < 1
        handler.flush()
        assert not handler._lines.unfinished_tasks


@contextmanager
def unread_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def full_disk() -> Iterator[int]:
    with open("/dev/full", "wb") as full:
        yield full.fileno()


@pytest.mark.parametrize("log", [unread_pipe, full_disk])
def test_f27_f60_a_server_whose_log_goes_nowhere(
    log: Callable[[], AbstractContextManager[int]],
) -> None:
    """The folder it is started in can hold no file either."""
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/proc"}
    with log() as fd:
        process = subprocess.Popen(command, stdout=fd, stderr=fd, env=environment, cwd="/proc")
        try:
            url = until_ready(f"http://127.0.0.1:{port}", process)
            with httpx.Client(headers={"X-Request-Id": "x" * 60}) as client:
                for _ in range(700):  # lines of more than 100 bytes: more than a pipe takes
                    assert client.get(f"{url}/v1/models").status_code == 200
            assert RIGHT in ask(url).text
            started = time.monotonic()
            process.terminate()
            assert process.wait(10) == 0 and time.monotonic() - started < 6
        finally:
            process.kill()
            process.wait()
