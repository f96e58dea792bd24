"""Stand-ins for the parts behind the HTTP side, and a real server on a free port."""

import asyncio
import dataclasses
import functools
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from model_runtime.checkpoint import load_checkpoint
from model_runtime.protocol import TileSet
from server.app import create_app
from server.engine.types import (
    EngineCounts,
    EngineHealth,
    EngineInfo,
    GenerationRequest,
    TextDelta,
)
from server.errors import EngineError, MediaError
from server.http.limits import HttpLimits
from server.http.protocol import GuardedProtocol
from server.lifecycle import Lifecycle
from server.media.budget import ByteBudget
from server.media.types import MediaRequest, PlannedMedia, PlannedTiles
from server.metrics import Metrics
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings

Script = Callable[[GenerationRequest], AsyncIterator[TextDelta]]


async def say_hello(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    for text in ("Hel", "", "lo 👋"):
        yield TextDelta(text, 1)
    yield TextDelta("", 1, "stop")


async def say_nothing_for_ever(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta("…", 1)
    await asyncio.Event().wait()


async def break_down(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta("so far", 1)
    raise EngineError("The engine stopped while it worked on this request.")


async def every_answer(script: Script, request: GenerationRequest) -> AsyncIterator[TextDelta]:
    """The script once for each of the request's answers."""
    for index in range(request.n):
        async for delta in script(request):
            yield dataclasses.replace(delta, index=index)


class FakeStream:
    def __init__(
        self, deltas: AsyncIterator[TextDelta], num_answers: int, on_abort: Callable[[], None]
    ) -> None:
        self._deltas = deltas
        self._num_unfinished = num_answers
        self._on_abort = on_abort
        self._is_over = False

    def __aiter__(self) -> AsyncIterator[TextDelta]:
        return self

    async def __anext__(self) -> TextDelta:
        delta = await anext(self._deltas)
        self._num_unfinished -= delta.finish_reason is not None
        self._is_over = not self._num_unfinished
        return delta

    def abort(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_abort()


class FakeEngine:
    """Implements `server.engine.types.Engine` by a script; remembers what it was asked."""

    def __init__(self, script: Script = say_hello, *, not_ready: str | None = None) -> None:
        self._script = script
        self.not_ready = not_ready
        self.is_alive = True
        self.num_kv_tokens = 1 << 20
        self.tally = EngineCounts()
        self.requests: list[GenerationRequest] = []
        self.aborted: list[str] = []
        self.something_aborted = threading.Event()

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("tiny", 2048, "cpu", "float32", "fake", self.num_kv_tokens)

    async def start(self) -> EngineInfo:
        return self.info

    async def stop(self) -> None: ...

    def submit(self, request: GenerationRequest) -> FakeStream:
        self.requests.append(request)
        deltas = every_answer(self._script, request)
        return FakeStream(deltas, request.n, lambda: self._aborted(request.request_id))

    def health(self) -> EngineHealth:
        return EngineHealth(self.not_ready is None, self.not_ready, None, self.is_alive)

    def counts(self) -> EngineCounts:
        return self.tally

    def _aborted(self, request_id: str) -> None:
        self.aborted.append(request_id)
        self.something_aborted.set()


class FakeBatch:
    """Implements `server.media.batch.MediaBatch`: planned by request, without pixels."""

    def __init__(self, requests: Sequence[MediaRequest]) -> None:
        self.planned = [_planned(request) for request in requests]

    async def load(self) -> list[TileSet]:
        sets = (tiles for media in self.planned for tiles in media.tile_sets)
        return [TileSet(tiles.content_hash, tiles.num_tiles, b"") for tiles in sets]


class FakeMedia:
    """Every URL is one tile (or two frames), except those that say `bad`."""

    def __init__(self) -> None:
        self.requests: list[MediaRequest] = []
        self.budget = ByteBudget(1 << 30)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @asynccontextmanager
    async def open(self, requests: Sequence[MediaRequest]) -> AsyncIterator[FakeBatch]:
        self.requests += requests
        for request in requests:
            if "bad" in request.url:
                raise MediaError("It is bad.", param=request.param, code="media_decode_failed")
        yield FakeBatch(requests)


class HangingMedia(FakeMedia):
    """Its host never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = threading.Event()
        self.was_cancelled = threading.Event()

    @asynccontextmanager
    async def open(self, requests: Sequence[MediaRequest]) -> AsyncIterator[FakeBatch]:
        if requests:
            self.was_asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.was_cancelled.set()
        yield FakeBatch(requests)


def _planned(request: MediaRequest) -> PlannedMedia:
    count = 1 if request.kind == "image" else request.num_frames or 2
    name = request.url.encode()
    return PlannedMedia(
        request.kind, tuple(PlannedTiles(name + bytes([i]), 1) for i in range(count))
    )


def make_app(
    folder: Path,
    engine: Any = None,
    media: Any = None,
    *,
    lifecycle: Lifecycle | None = None,
    **settings: Any,
) -> FastAPI:
    """The real application over fakes."""
    checkpoint = load_checkpoint(folder, "tiny")
    return create_app(
        engine=engine or FakeEngine(),
        media=media or FakeMedia(),
        prompts=PromptBuilder(checkpoint, 2048),
        checkpoint=checkpoint,
        settings=ServerSettings(**settings),
        metrics=Metrics(),
        lifecycle=lifecycle,
    )


@contextmanager
def run_server(app: FastAPI, **limits: Any) -> Iterator[str]:
    """Serve `app` on a free loopback port in a thread; yields the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    protocol: Any = functools.partial(GuardedProtocol, limits=HttpLimits(**limits))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, http=protocol)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
