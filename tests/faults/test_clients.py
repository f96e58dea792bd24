"""Rows of the fault table in which clients leave, hurry or crowd: F30 to F32, F37 to F42, F58."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.faults.server import PLAIN, RIGHT, ask, assert_as_before
from tests.served import Served
from tests.server.media.makers import data_url, encoded, photo

MAX_NUM_SEQS, MAX_WAITING = 4, 12
ARGUMENTS = (
    f"--max-num-seqs={MAX_NUM_SEQS}",
    f"--max-waiting-requests={MAX_WAITING}",
    "--allowed-media-networks=127.0.0.0/8",
)
PATH = "/v1/chat/completions"
ENDLESS = {"max_tokens": 1500, "ignore_eos": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("faults") / "server.log", ARGUMENTS) as server:
        ask(server.url)
        yield server


@pytest.fixture(autouse=True)
def end_check(server: Served) -> Iterator[None]:
    num_fds = server.front.num_fds()
    yield
    assert_as_before(server, num_fds)


def connect(server: Served) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 0), timeout=20)


def head(num_bytes: int) -> bytes:
    lines = (
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {num_bytes}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def post(server: Served, **changes: object) -> socket.socket:
    """A request on its way; nobody has read its answer."""
    body = json.dumps(PLAIN | changes).encode()
    connection = connect(server)
    connection.sendall(head(len(body)) + body)
    return connection


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def until_gauge(server: Served, name: str, value: float, seconds: float = 10) -> float:
    """Wait until it is at least that; how long it took."""
    started = time.monotonic()
    while server.gauges()[name] < value:
        assert time.monotonic() - started < seconds, (name, server.gauges()[name])
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_f30_a_client_that_leaves_in_the_middle_of_its_body(server: Served, leave: object) -> None:
    before = server.gauges()["prompt_tokens_total"]
    for _ in range(20):
        connection = connect(server)
        connection.sendall(head(5000) + b'{"messages": [')
        assert callable(leave)
        leave(connection)
    time.sleep(0.2)
    assert server.gauges()["prompt_tokens_total"] == before


@asynccontextmanager
async def hanging_site() -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """A URL that sends a beginning only; tells when it is asked and when it is given up."""
    asked, left = asyncio.Event(), asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\x89PNG")
        asked.set()
        await reader.read()
        left.set()

    site = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with site:
        yield f"http://127.0.0.1:{site.sockets[0].getsockname()[1]}/a.png", asked, left
        for writer in writers:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)


async def test_f31_a_client_that_leaves_during_a_fetch(server: Served) -> None:
    async with hanging_site() as (url, asked, left):
        part = {"type": "image_url", "image_url": {"url": url}}
        messages = [{"role": "user", "content": [part]}]
        connection = await asyncio.to_thread(post, server, messages=messages)
        await asyncio.wait_for(asked.wait(), 10)
        started = time.monotonic()
        connection.close()
        await asyncio.wait_for(left.wait(), 10)
        assert time.monotonic() - started < 1  # 0.01 on an idle machine


def test_f32_clients_that_leave_during_decoding(server: Served) -> None:
    """The decoders at work for nobody are replaced; the next pictures are decoded."""
    large = encoded(photo(300, 300).resize((6000, 6000)), compress_level=1)
    for number in range(4):
        url = data_url(large + bytes([number]))
        part = {"type": "image_url", "image_url": {"url": url}}
        connection = post(server, messages=[{"role": "user", "content": [part]}])
        time.sleep(0.2)
        connection.close()
    small = {"type": "image_url", "image_url": {"url": data_url(encoded(photo(64, 64)))}}
    answer = ask(server.url, messages=[{"role": "user", "content": [small]}], max_tokens=4)
    assert answer.status_code == 200


@pytest.mark.parametrize("is_streamed", [False, True])
def test_f37_who_leaves_is_not_answered_to_the_end(server: Served, is_streamed: bool) -> None:
    before = server.gauges()["generation_tokens_total"]
    connection = post(server, stream=is_streamed, **ENDLESS)
    until_gauge(server, "num_requests_running", 1)
    connection.close()
    deadline = time.monotonic() + 5
    while server.gauges()["num_requests_running"]:
        assert time.monotonic() < deadline, "it runs on"
    assert server.gauges()["generation_tokens_total"] - before < ENDLESS["max_tokens"]


def test_f39_a_thousand_that_connect_and_reset(server: Served) -> None:
    before = server.front.memory_info().rss
    for _ in range(1000):
        reset(connect(server))
    time.sleep(0.3)
    assert server.front.memory_info().rss - before < 8 << 20


async def test_f41_f42_a_burst_is_admitted_to_the_limit_and_then_all_is_quiet(
    server: Served,
) -> None:
    """As many as there is room for are answered; the others are told when to come again."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
        body = PLAIN | {"max_tokens": 200, "ignore_eos": True}
        asked = [client.post(PATH, json=body) for _ in range(300)]
        answers = await asyncio.gather(*asked)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503} and statuses.count(200) >= MAX_NUM_SEQS + MAX_WAITING
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all(answer.headers["retry-after"] for answer in refused)
        codes = {answer.json()["error"]["code"] for answer in refused}
        assert codes == {"server_overloaded"}
        started = time.monotonic()
        assert RIGHT in (await client.post(PATH, json=PLAIN)).text
        assert time.monotonic() - started < 2
        assert server.gauges()["num_requests_waiting"] == 0


@pytest.mark.parametrize("bad", [b"{", b'{"messages": []}', b'{"messages": "x"}'])
def test_f58_a_connection_serves_on_after_an_error(server: Served, bad: bytes) -> None:
    """Both requests are sent at once; the second answer follows the first."""
    good = json.dumps(PLAIN).encode()
    with connect(server) as connection:
        connection.sendall(head(len(bad)) + bad + head(len(good)) + good)
        received = b""
        while RIGHT.encode() not in received:
            piece = connection.recv(1 << 16)
            assert piece, received
            received += piece
    assert received.startswith(b"HTTP/1.1 400 ") and received.count(b"HTTP/1.1 200 OK") == 1


async def test_f23_slow_media_everywhere_and_texts_are_served(server: Served) -> None:
    """As many as may load media wait for a site that says nothing more."""
    async with hanging_site() as (url, asked, _):
        slow = []
        for number in range(10):
            part = {"type": "image_url", "image_url": {"url": f"{url}?{number}"}}
            messages = [{"role": "user", "content": [part]}]
            slow.append(await asyncio.to_thread(post, server, messages=messages))
        await asyncio.wait_for(asked.wait(), 10)
        seconds = []
        for _ in range(5):
            started = time.monotonic()
            assert RIGHT in (await asyncio.to_thread(ask, server.url)).text
            seconds.append(time.monotonic() - started)
        assert min(seconds) < 0.5
        for connection in slow:
            connection.close()
