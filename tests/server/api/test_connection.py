"""An event stream ends once and closes its source, whichever side ends it."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest
from starlette.types import Message

from server.api import connection
from server.api.connection import ClientGoneError, EventStreamResponse, until_gone


class Client:
    """The client's end, by hand: stays until `leave`, reads as `read` says."""

    def __init__(self, read: Callable[[], asyncio.Future[None]] | None = None) -> None:
        self._gone = asyncio.Event()
        self._read = read
        self.received: list[Message] = []
        self.has_read = asyncio.Event()

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.received.append(message)
        if message.get("body"):
            self.has_read.set()
        if self._read is not None and message.get("body"):
            await self._read()


class Source:
    """Yields events, then (unless it ends) waits for ever; knows whether it was closed."""

    def __init__(self, *events: bytes, ends: bool) -> None:
        self._events, self._ends = events, ends
        self.is_closed = False
        self.num_ended = 0

    async def events(self) -> AsyncGenerator[bytes, None]:
        try:
            for event in self._events:
                yield event
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True

    def on_end(self) -> None:
        assert self.is_closed
        self.num_ended += 1

    async def answer(self, client: Client) -> None:
        response = EventStreamResponse(self.events(), self.on_end)
        await response({"type": "http"}, client.receive, client.send)


async def test_a_stream_that_is_read_to_its_end() -> None:
    source, client = Source(b"a", b"b", ends=True), Client()
    await source.answer(client)
    bodies = [message.get("body") for message in client.received]
    assert bodies == [None, b"a", b"b", b""] and source.num_ended == 1
    assert [m.get("more_body") for m in client.received] == [None, True, True, False]
    headers = dict(client.received[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache"


async def test_a_client_that_leaves_closes_the_source() -> None:
    source, client = Source(b"a", ends=False), Client()
    answering = asyncio.create_task(source.answer(client))
    await asyncio.sleep(0)
    client.leave()
    await asyncio.wait_for(answering, 5)
    assert source.is_closed and source.num_ended == 1


async def test_a_reader_that_stalls_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_TIMEOUT_S", 0.01)
    source = Source(b"a", b"b", ends=True)
    await source.answer(Client(read=asyncio.get_running_loop().create_future))
    assert source.is_closed and source.num_ended == 1


async def test_a_broken_pipe_ends_the_stream_quietly() -> None:
    def broken() -> asyncio.Future[None]:
        raise OSError

    source = Source(b"a", b"b", ends=True)
    await source.answer(Client(read=broken))
    assert source.is_closed and source.num_ended == 1


async def test_a_cancelled_answer_closes_the_source() -> None:
    source, client = Source(b"a", ends=False), Client()
    answering = asyncio.create_task(source.answer(client))
    await client.has_read.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert source.is_closed and source.num_ended == 1


async def test_work_goes_on_while_the_client_stays() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 3

    client = Client()
    assert await until_gone(client.receive, work()) == 3
    client.leave()
    with pytest.raises(ClientGoneError):
        await until_gone(client.receive, asyncio.sleep(60))
