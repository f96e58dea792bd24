"""Rows of the fault table in which processes die or find too little: F01 and others."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.server import (
    RIGHT,
    ask,
    assert_as_before,
    free_port,
    until_ready,
    wait_until_ready,
)
from tests.served import Served
from tests.server.media.makers import data_url, encoded, photo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("faults") / "server.log") as server:
        ask(server.url)
        yield server


@pytest.fixture
def end_check(server: Served) -> Iterator[None]:
    num_fds = server.front.num_fds()
    yield
    assert_as_before(server, num_fds)


def segments() -> set[str]:
    return set(os.listdir("/dev/shm"))


@pytest.mark.usefixtures("end_check")
def test_f01_f56_an_idle_worker_is_killed(server: Served) -> None:
    """Not ready at once, ready when the next one has loaded; no shared memory stays behind."""
    before = segments()
    server.kill_worker()
    started = time.monotonic()
    while server.is_ready():
        assert time.monotonic() - started < 1
    assert httpx.get(f"{server.url}/livez").status_code == 200
    answer = ask(server.url)
    if answer.status_code != 200:  # the next one loads still
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert answer.json()["error"]["code"] == "server_not_ready"
    wait_until_ready(server)
    assert segments() <= before
    assert server.gauges()["worker_restarts_total"] == 1


def decoders(server: Served) -> list[psutil.Process]:
    found = []
    for child in server.front.children():
        with suppress(psutil.Error):  # just dead
            if "server.media.decoder" in child.cmdline():
                found.append(child)
    return found


def picture(seed: int) -> list[dict[str, object]]:
    url = {"url": data_url(encoded(photo(64, 64, seed=seed)))}
    return [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]


@pytest.mark.usefixtures("end_check")
def test_f20_f59_decoders_are_killed_again_and_again(server: Served) -> None:
    """Each is replaced, none stays as a zombie."""
    for number in range(30):
        for decoder in decoders(server):
            with suppress(psutil.NoSuchProcess):
                decoder.kill()
        answer = ask(server.url, messages=picture(number), max_tokens=1)
        assert answer.status_code in (200, 400), answer.text
    deadline = time.monotonic() + 10
    while ask(server.url, messages=picture(1000), max_tokens=1).status_code != 200:
        assert time.monotonic() < deadline


def test_f08_the_port_is_in_use(tmp_path: Path) -> None:
    """One clear line, and nothing stays."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "server", "serve", "--port", port]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert [line for line in said.decode().splitlines() if port in line], said
    assert b"Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))


def test_f26_descriptors_run_out() -> None:
    """More connections than there are descriptors: some wait or are refused; then all is well."""
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=few_descriptors
    )
    try:
        url = until_ready(f"http://127.0.0.1:{port}", process)
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(150)]
        time.sleep(0.5)
        for connection in crowd:
            connection.close()
        until_ready(url, process)  # the last of the crowd may take a newcomer's connection along
        assert RIGHT in ask(url).text
        assert ask(url, messages=picture(1), max_tokens=1).status_code == 200
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_f45_the_end_of_an_idle_server(tmp_path: Path) -> None:
    with Served(tmp_path / "server.log") as server:
        children = server.front.children(recursive=True)
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < 4  # 1.5 on an idle machine
    assert not any(child.is_running() for child in children)
