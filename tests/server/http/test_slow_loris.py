"""Row F55 of the fault table: hundreds of connections that drip a byte now and then."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.served import Served

NUM_HEADS, NUM_BODIES = 400, 100
DRIP_S = 1.0
HEAD_LIMIT_S, BODY_LIMIT_S = 10.0, 15.0
_HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
_BODY = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n{"
)

pytestmark = pytest.mark.alone


async def drip(server: Served, first: bytes) -> float:
    """Seconds until the server has had enough."""
    url = httpx.URL(server.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    started = time.monotonic()
    writer.write(first)
    try:
        while True:
            try:
                if not await asyncio.wait_for(reader.read(1), DRIP_S):
                    break
            except TimeoutError:
                writer.write(b" ")
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return time.monotonic() - started


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline, "they did not get in"
        time.sleep(0.02)


@asynccontextmanager
async def dripping(server: Served) -> AsyncIterator["asyncio.Task[list[float]]"]:
    """Yields what will be the times of all of them."""
    num_files = server.front.num_fds() + NUM_HEADS + NUM_BODIES - 5  # some were still closing
    drops = [drip(server, _HEAD) for _ in range(NUM_HEADS)]
    drops += [drip(server, _BODY) for _ in range(NUM_BODIES)]
    task = asyncio.ensure_future(asyncio.gather(*drops))
    await asyncio.to_thread(wait_for, lambda: server.front.num_fds() >= num_files)
    yield task
    task.cancel()


async def ask(client: httpx.AsyncClient) -> float:
    """Seconds of a whole answer, over a connection of its own."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0}
    started = time.monotonic()
    response = await client.post("/v1/chat/completions", json=body)
    assert response.json()["choices"][0]["finish_reason"] in ("stop", "length")
    return time.monotonic() - started


async def typical(client: httpx.AsyncClient) -> tuple[float, float]:
    """Median and worst of a few, one after another."""
    seconds = [await ask(client) for _ in range(40)]
    return statistics.median(seconds), max(seconds)


async def test_f55_dripping_connections_are_dropped_and_harm_nobody(tmp_path: Path) -> None:
    with Served(tmp_path / "server.log") as server:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            await typical(client)
            alone = await typical(client)
            idle = server.front.num_fds()
            async with dripping(server) as drops:
                beside = await typical(client)
                assert not drops.done(), "they were measured without those who drip"
                seconds = await drops
            assert beside[0] < 2 * alone[0] + 0.05 and beside[1] < alone[1] + 1
            assert max(seconds[:NUM_HEADS]) < HEAD_LIMIT_S + 2 * DRIP_S
            assert max(seconds[NUM_HEADS:]) < BODY_LIMIT_S + 2 * DRIP_S
            assert min(seconds) > HEAD_LIMIT_S - 2
            assert server.front.num_fds() <= idle + 2
            assert await ask(client) < alone[1] + 1
        assert server.gauges()["requests_inside"] == 0
