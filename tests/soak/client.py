"""Carries out one planned request and tells how it ended: in exactly one way."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum

import httpx

from tests.soak.plan import Manner, Plan
from tests.soak.shapes import Said, body_of, read_line, read_whole

HANG_S = 90.0  # no answer takes as long, also beside a worker that is replaced
_SIP_BYTES = 4 << 10
_SIP_S = 0.008


class End(Enum):
    ANSWERED = "answered"
    REFUSED = "error"  # in words, before the answer or in the stream
    LEFT = "left"
    LOST = "lost"  # anything else: a hang, a cut, an answer without an end


@dataclass(frozen=True, slots=True)
class Outcome:
    """`began` and `ended` by the monotonic clock."""

    plan: Plan
    end: End
    began: float
    ended: float
    texts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    status: int = 0
    code: str = ""
    words: str = ""
    retry_after_s: float = 0.0


class Client:
    """All requests of a soak; slow readers have connections of their own with small buffers."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=20)
        self._quick = httpx.AsyncClient(base_url=url, timeout=None, limits=limits)
        small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
        transport = httpx.AsyncHTTPTransport(socket_options=small)
        self._slow = httpx.AsyncClient(base_url=url, timeout=None, transport=transport)

    async def close(self) -> None:
        await self._quick.aclose()
        await self._slow.aclose()

    async def carry_out(self, plan: Plan) -> Outcome:
        began = time.monotonic()
        leaves = plan.manner is Manner.LEAVES
        try:
            async with asyncio.timeout(plan.leaves_after_s if leaves else HANG_S):
                return await self._ask(plan, began)
        except TimeoutError:
            end, words = (End.LEFT, "") if leaves else (End.LOST, "it hangs")
        except (httpx.HTTPError, AssertionError, ValueError, LookupError, TypeError) as error:
            end, words = End.LOST, f"{type(error).__name__}: {error}"
        return Outcome(plan, end, began, time.monotonic(), words=words)

    async def _ask(self, plan: Plan, began: float) -> Outcome:
        body = json.dumps(body_of(plan)).encode()
        client = self._slow if plan.manner is Manner.READS_SLOWLY else self._quick
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        content = _half(body) if plan.sends_half else body
        request = client.build_request(
            "POST", plan.endpoint.value, content=content, headers=headers
        )
        response = await client.send(request, stream=True)
        try:
            said = await _read(plan, response)
        finally:
            await response.aclose()
        return _outcome(plan, response, said, began)


async def _half(body: bytes) -> AsyncIterator[bytes]:
    """And then nothing: whoever asks leaves meanwhile."""
    yield body[: len(body) // 2]
    await asyncio.sleep(HANG_S)


async def _read(plan: Plan, response: httpx.Response) -> Said:
    if response.status_code != 200 or not plan.is_streamed:
        said = read_whole(plan.endpoint, json.loads(await response.aread()))
        assert (response.status_code == 200) == (said.error is None), "the status is a lie"
        return said
    said = Said()
    rest = b""
    async for data in response.aiter_bytes(_SIP_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            read_line(plan.endpoint, line.decode(), said)
        if plan.manner is Manner.READS_SLOWLY:
            await asyncio.sleep(_SIP_S)
    assert not rest, "the stream is cut within a line"
    return said


def _outcome(plan: Plan, response: httpx.Response, said: Said, began: float) -> Outcome:
    ended = time.monotonic()
    if said.error is not None:
        return Outcome(
            plan, End.REFUSED, began, ended, status=response.status_code,
            code=said.error.get("code") or said.error.get("type", ""),
            words=said.error["message"],
            retry_after_s=float(response.headers.get("retry-after", 0)),
        )  # fmt: skip
    if not said.is_closed or sorted(said.ends) != list(range(plan.n)):
        words = f"ends {said.ends} for n={plan.n}, closed: {said.is_closed}"
        return Outcome(plan, End.LOST, began, ended, words=words)
    texts = tuple(said.texts[index] for index in range(plan.n))
    reasons = tuple(said.ends[index] for index in range(plan.n))
    return Outcome(plan, End.ANSWERED, began, ended, texts, reasons, status=200)
