"""How the server ends: nobody new, the old ones finished, the rest told. Over a fake engine, in
this process; `test_shutdown.py` does it with signals to a real one."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import Message

from server.engine.types import GenerationRequest, TextDelta
from server.errors import DrainingError
from server.lifecycle import Lifecycle, State
from server.serving import DrainingServer
from tests.fakes import FakeEngine, HangingMedia, make_app, say_nothing_for_ever
from tests.server.api.client import HELLO, error_of, events, post
from tests.server.http.talk import connect, hear, request


class Running:
    """A server in a thread, and its end."""

    def __init__(self, folder: Path, engine: Any = None, media: Any = None, **times: float):
        self.lifecycle = Lifecycle()
        app = make_app(folder, engine, media, lifecycle=self.lifecycle)
        config = uvicorn.Config(
            app, port=0, log_config=None, timeout_graceful_shutdown=1, http="httptools"
        )
        times = {"drain_delay": 0.0, "shutdown_timeout": 10.0, **times}
        self._server = DrainingServer(config, self.lifecycle, **times)
        self.thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> str:
        self.thread.start()
        wait_until(lambda: self._server.started and self.lifecycle.state is State.SERVING)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def signal(self) -> None:
        self._server.handle_exit(SIGTERM, None)

    def seconds_to_end(self) -> float:
        started = time.monotonic()
        self.thread.join(20)
        assert not self.thread.is_alive()
        return time.monotonic() - started


@contextmanager
def running(folder: Path, *parts: Any, **times: float) -> Iterator[tuple[Running, str]]:
    server = Running(folder, *parts, **times)
    url = server.start()
    try:
        yield server, url
    finally:
        server.signal()
        server.signal()
        server.seconds_to_end()


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def say_slowly(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    for _ in range(10):
        yield TextDelta("so ", 1)
        await asyncio.sleep(0.1)
    yield TextDelta("", 1, "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_who_is_inside_is_finished_and_nobody_else_let_in(
    tiny_checkpoint: Path, stream: bool
) -> None:
    engine = FakeEngine(say_slowly)
    with running(tiny_checkpoint, engine) as (server, url), ThreadPoolExecutor() as pool:
        inside = pool.submit(post, url, {**HELLO, "stream": stream})
        wait_until(lambda: engine.requests)
        server.signal()
        wait_until(lambda: server.lifecycle.is_closed)
        refused = post(url, HELLO)
        assert refused.status_code == 503 and error_of(refused)["code"] == "server_draining"
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/livez").status_code == 200
        assert 'admission_refusals_total{reason="draining"} 1.0' in httpx.get(f"{url}/metrics").text
        response = inside.result()
        assert response.status_code == 200 and "so so" in response.text or stream
        if stream:
            assert events(response)[-1]["choices"][0]["finish_reason"] == "stop"
        assert server.seconds_to_end() < 3


def test_not_ready_comes_first_and_service_goes_on(tiny_checkpoint: Path) -> None:
    with running(tiny_checkpoint, drain_delay=1.0) as (server, url):
        assert httpx.get(f"{url}/readyz").status_code == 200
        server.signal()
        for path in ("/readyz", "/health"):
            response = httpx.get(url + path)
            assert response.status_code == 503 and response.json()["reason"] == "draining"
        assert post(url, HELLO).status_code == 200
        assert server.seconds_to_end() < 3


def test_a_stream_that_takes_too_long_ends_with_an_error_event(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    with running(tiny_checkpoint, engine, shutdown_timeout=0.3) as (server, url):
        with ThreadPoolExecutor() as pool:
            inside = pool.submit(post, url, {**HELLO, "stream": True})
            wait_until(lambda: engine.requests)
            server.signal()
            chunks = events(inside.result(), is_failed=True)
        assert chunks[-1]["error"]["code"] == "server_draining"
        assert "choices" in chunks[0]
        assert server.seconds_to_end() < 3
    assert len(engine.aborted) == 1


@pytest.mark.parametrize("phase", ["media", "answer"])
def test_an_answer_that_takes_too_long_is_a_503(tiny_checkpoint: Path, phase: str) -> None:
    engine, media = FakeEngine(say_nothing_for_ever), HangingMedia()
    picture = [{"type": "image_url", "image_url": "http://h/"}]
    body: Any = {"messages": [{"role": "user", "content": picture if phase == "media" else "Hi"}]}
    with running(tiny_checkpoint, engine, media, shutdown_timeout=0.3) as (server, url):
        with ThreadPoolExecutor() as pool:
            inside = pool.submit(post, url, body, timeout=10)
            wait_until(lambda: engine.requests or media.was_asked.is_set())
            server.signal()
            response = inside.result()
        assert response.status_code == 503
        assert error_of(response)["code"] == "server_draining"
        assert server.seconds_to_end() < 3


def test_who_still_sends_its_body_is_told(tiny_checkpoint: Path) -> None:
    with running(tiny_checkpoint, shutdown_timeout=0.3) as (server, url), connect(url) as inside:
        inside.sendall(request("Expect: 100-continue", length=100, body=b""))
        assert inside.recv(100).startswith(b"HTTP/1.1 100")
        server.signal()
        heard = hear(inside)
        assert (heard.status, heard.code) == (503, "server_draining")
        assert server.seconds_to_end() < 3


def test_a_second_signal_ends_at_once_but_not_in_silence(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    times = {"shutdown_timeout": 60.0, "drain_delay": 60.0}
    with running(tiny_checkpoint, engine, **times) as (server, url), ThreadPoolExecutor() as pool:
        inside = pool.submit(post, url, {**HELLO, "stream": True})
        wait_until(lambda: engine.requests)
        server.signal()
        time.sleep(0.2)
        server.signal()
        assert events(inside.result(), is_failed=True)[-1]["error"]["code"] == "server_draining"
        assert server.seconds_to_end() < 3


def test_there_is_no_way_back() -> None:
    lifecycle = Lifecycle()
    lifecycle.advance(State.CLOSED)
    lifecycle.advance(State.SERVING)
    assert lifecycle.is_closed and lifecycle.is_draining


async def test_whoever_waits_for_a_message_is_told() -> None:
    lifecycle = Lifecycle()

    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    async def at_once() -> Message:
        return {"type": "http.request"}

    assert await lifecycle.receive(at_once) == {"type": "http.request"}
    waiting = [asyncio.create_task(lifecycle.receive(never)) for _ in range(3)]
    await asyncio.sleep(0.01)
    lifecycle.advance(State.STOPPED)
    for task in waiting:
        with pytest.raises(DrainingError):
            await task
    with pytest.raises(DrainingError):
        await lifecycle.receive(at_once)
