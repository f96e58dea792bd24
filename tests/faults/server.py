"""What the tests of faults do with a server, and how it must be after each."""

import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

import httpx
import psutil

from tests.served import Served

PLAIN = {"messages": [{"role": "user", "content": "Count to 5."}], "temperature": 0}
RIGHT = "1, 2, 3, 4, 5"


def ask(url: str, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    body = PLAIN | changes
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def until_ready(url: str, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended"
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return url
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("it does not become ready")


def wait_until_ready(server: Served) -> None:
    deadline = time.monotonic() + 30
    while not server.is_ready():
        assert time.monotonic() < deadline, "it does not become ready again"
        time.sleep(0.05)


def assert_as_before(server: Served, num_fds: int) -> None:
    """The common end check: ready, right, and nothing is held for anybody."""
    wait_until_ready(server)
    deadline = time.monotonic() + 20
    answer = ask(server.url).json()
    assert RIGHT in answer["choices"][0]["message"]["content"], answer
    while held := holdings(server, num_fds):
        assert time.monotonic() < deadline, held
        time.sleep(0.05)


def holdings(server: Served, num_fds: int) -> dict[str, float]:
    """What is still held, by name; empty when nothing is."""
    gauges = server.gauges()
    names = ("num_requests_running", "num_requests_waiting", "requests_inside", "tokens_inside")
    held = {name: gauges[name] for name in names if gauges[name]}
    if zombies := num_zombies(server):
        held["zombies"] = zombies
    if server.front.num_fds() > num_fds + 3:
        held["descriptors"] = server.front.num_fds() - num_fds
    return held


def num_zombies(server: Served) -> int:
    count = 0
    for child in server.front.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # gone since
            count += child.status() == "zombie"
    return count
