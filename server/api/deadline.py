"""How long a request may take: `--request-timeout`, or less where its client says so."""

import asyncio
import math
import time
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from server.errors import InvalidRequestError, too_late

HEADER = "X-Request-Timeout"

T = TypeVar("T")


def deadline_of(http: Request, longest_s: float) -> float:
    """From the request's arrival on, by time.monotonic(). Raises InvalidRequestError."""
    arrived_s: float = http.state.arrived_s
    asked = http.headers.get(HEADER)
    return arrived_s + (longest_s if asked is None else min(longest_s, _seconds(asked)))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InvalidRequestError(
            f"The header {HEADER} is a number of seconds above 0, such as 30 or 2.5.",
            param=HEADER,
            code="invalid_value",
        )
    return seconds


async def in_time(work: Awaitable[T], deadline_s: float) -> T:
    """The result of `work`, which is cancelled when its time is over (DeadlineExceededError)."""
    try:
        async with asyncio.timeout(deadline_s - time.monotonic()) as limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise too_late() from None
        raise
