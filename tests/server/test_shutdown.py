"""The end of a real process: signals to a served checkpoint with a real worker."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM

import httpx
import psutil
import pytest

# Longer than any patience here: the tiny model writes on until its context is full.
ENDLESS = {"messages": [{"role": "user", "content": "Hi"}], "ignore_eos": True, "n": 64}
PATIENCE_S = 60


@contextmanager
def served(folder: Path, log: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    command = [
        sys.executable,
        "-m",
        "server",
        "serve",
        str(folder),
        "--port",
        "0",
        "--device",
        "cpu",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *flags], stderr=output, start_new_session=True)
    try:
        yield process, _url(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Told when the model is loaded."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"try: curl (http://\S+?)/v1/", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def children(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=15)[1]


@pytest.mark.parametrize("signal", [SIGTERM, SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stream_that_does_not_end_is_told_of_the_end(
    tiny_checkpoint: Path, tmp_path: Path, signal: int
) -> None:
    flags = ("--shutdown-timeout", "1")
    with served(tiny_checkpoint, tmp_path / "log", *flags) as (process, url):
        family = children(process)
        assert family
        chat = f"{url}/v1/chat/completions"
        body = {**ENDLESS, "stream": True}
        with httpx.stream("POST", chat, json=body, timeout=PATIENCE_S) as response:
            lines = response.iter_lines()
            next(lines)
            started = time.monotonic()
            process.send_signal(signal)
            last = [line for line in lines if line][-1]
        assert '"code":"server_draining"' in last and last.startswith('data: {"error"')
        assert 0.9 < time.monotonic() - started < 5
        assert process.wait(PATIENCE_S) == 0
        assert all_gone(family)


@pytest.mark.parametrize("is_for_all", [False, True], ids=["to the front end", "to the group"])
def test_what_is_under_way_is_finished(
    tiny_checkpoint: Path, tmp_path: Path, is_for_all: bool
) -> None:
    flags = ("--drain-delay", "3")
    with served(tiny_checkpoint, tmp_path / "log", *flags) as (process, url):
        chat = f"{url}/v1/chat/completions"
        body = {**ENDLESS, "stream": True, "n": 1, "max_tokens": 300}
        with httpx.stream("POST", chat, json=body, timeout=PATIENCE_S) as response:
            lines = response.iter_lines()
            next(lines)
            (os.killpg if is_for_all else os.kill)(process.pid, SIGTERM)
            ready = httpx.get(f"{url}/readyz")
            late = httpx.post(chat, json={**ENDLESS, "n": 1, "max_tokens": 2})
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert ready.status_code == 503 and ready.json()["reason"] == "draining"
        assert late.status_code == 200
        assert process.wait(PATIENCE_S) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_second_signal_does_not_wait(tiny_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--shutdown-timeout", "100", "--drain-delay", "100")
    with served(tiny_checkpoint, tmp_path / "log", *flags) as (process, url):
        family = children(process)
        chat = f"{url}/v1/chat/completions"
        body = {**ENDLESS, "stream": True}
        with httpx.stream("POST", chat, json=body, timeout=PATIENCE_S) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(SIGTERM)
            time.sleep(0.3)  # two signals at once are one
            process.send_signal(SIGTERM)
            started = time.monotonic()
            assert "server_draining" in [line for line in lines if line][-1]
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - started < 10
        assert all_gone(family)


def test_a_signal_while_the_model_loads(tiny_checkpoint: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "server", "serve", str(tiny_checkpoint), "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "Uvicorn running" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        family = children(process)
        process.send_signal(SIGTERM)
        assert process.wait(20) == 0
        assert all_gone(family)
    finally:
        if process.poll() is None:
            process.kill()
