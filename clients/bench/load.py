"""Sends requests as a load says: when a place is free, or when the clock says so."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from clients.bench.options import Load
from clients.bench.wire import Stamped

Send = Callable[[bytes, float | None], Awaitable[Stamped]]
OnDone = Callable[[], None]


def arrivals(load: Load, count: int, seed: int) -> list[float]:
    """Seconds from the start at which an open loop sends.

    Gaps are gamma-distributed with mean 1 / rate and shape `burstiness`; shape 1 is Poisson.
    """
    assert load.rate is not None
    chance = random.Random(f"{seed}/arrivals")
    times, now = [], 0.0
    for _ in range(count):
        now += chance.gammavariate(load.burstiness, 1 / (load.rate * load.burstiness))
        times.append(now)
    return times


async def drive(
    send: Send,
    bodies: Sequence[bytes],
    load: Load,
    *,
    duration: float | None = None,
    seed: int = 0,
    on_done: OnDone = lambda: None,
) -> list[Stamped]:
    """Send each body once, in order; nothing new after `duration` seconds. Waits for all."""
    if load.rate is None:
        return await _closed(send, bodies, load.concurrency or 1, duration, on_done)
    return await _open(send, bodies, load, duration, seed, on_done)


async def _closed(
    send: Send,
    bodies: Sequence[bytes],
    concurrency: int,
    duration: float | None,
    on_done: OnDone,
) -> list[Stamped]:
    waiting, done = iter(bodies), []
    end = time.perf_counter() + (duration or float("inf"))

    async def client() -> None:
        for body in waiting:  # shared: each body goes to the client that is free first
            done.append(await send(body, None))
            on_done()
            if time.perf_counter() >= end:
                return

    async with asyncio.TaskGroup() as clients:
        for _ in range(min(concurrency, len(bodies))):
            clients.create_task(client())
    return done


async def _open(
    send: Send,
    bodies: Sequence[bytes],
    load: Load,
    duration: float | None,
    seed: int,
    on_done: OnDone,
) -> list[Stamped]:
    """Nobody waits for an answer before sending; with a cap, requests queue here, and it counts."""
    done: list[Stamped] = []
    places = asyncio.Semaphore(load.concurrency) if load.concurrency else None

    async def one(body: bytes, intended: float) -> None:
        place: AbstractAsyncContextManager[None] = places or nullcontext()
        async with place:
            done.append(await send(body, intended))
        on_done()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        for body, offset in zip(bodies, arrivals(load, len(bodies), seed), strict=True):
            if offset >= (duration or float("inf")):
                break
            await asyncio.sleep(max(0.0, start + offset - time.perf_counter()))
            requests.create_task(one(body, start + offset))
    return done
