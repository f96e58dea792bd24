"""Decoded once, for everybody who may know; and never longer than there is memory for it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from model_runtime.protocol import TileSet
from server.errors import MediaError
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from server.media.tile_cache import TileCache
from server.media.types import LoadedMedia, MediaRequest
from tests.server.media.conftest import PROCESSING
from tests.server.media.makers import data_url, encoded, photo


def media(num_bytes: int) -> LoadedMedia:
    return LoadedMedia("image", (TileSet(b"h", 1, bytes(num_bytes)),))


class Work:
    """A decoding that waits to be let go; counts how often it began."""

    def __init__(self, result: LoadedMedia | Exception) -> None:
        self.num_begun = 0
        self.was_cancelled = False
        self.may_end = asyncio.Event()
        self._result = result

    async def __call__(self) -> LoadedMedia:
        self.num_begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


async def begin(cache: TileCache, work: Work, param: str = "p") -> asyncio.Task[LoadedMedia]:
    task = asyncio.create_task(cache.decode_once(b"k", work, param))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_waiters_share_one_decoding_and_it_is_kept() -> None:
    cache, work = TileCache(100), Work(media(10))
    first, second = await begin(cache, work), await begin(cache, work)
    first.cancel()  # the other still waits
    await asyncio.sleep(0)
    work.may_end.set()
    assert (await second).num_bytes == 10
    assert work.num_begun == 1 and not work.was_cancelled
    assert cache.find(b"k") is not None and cache.find(b"other") is None


async def test_work_that_nobody_waits_for_is_cancelled_and_can_be_begun_again() -> None:
    cache, work = TileCache(100), Work(media(10))
    tasks = [await begin(cache, work), await begin(cache, work)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert work.was_cancelled and cache.find(b"k") is None
    again = Work(media(10))
    task = await begin(cache, again)
    again.may_end.set()
    assert (await task).num_bytes == 10


async def test_a_failure_names_each_waiters_field_and_is_not_kept() -> None:
    cache, work = TileCache(100), Work(MediaError("bad", param="x", code="media_decode_failed"))
    tasks = [await begin(cache, work, param) for param in ("one", "two")]
    work.may_end.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error.param for error in found if isinstance(error, MediaError)] == ["one", "two"]
    assert cache.find(b"k") is None


async def put(cache: TileCache, key: bytes, num_bytes: int) -> None:
    async def decode() -> LoadedMedia:
        return media(num_bytes)

    await cache.decode_once(key, decode, "p")


async def test_the_least_recently_used_goes_first() -> None:
    cache = TileCache(100)
    for key in (b"a", b"b"):
        await put(cache, key, 50)
    assert cache.find(b"a")  # used again
    await put(cache, b"c", 50)
    assert cache.find(b"b") is None and cache.find(b"a") and cache.find(b"c")
    await put(cache, b"huge", 101)
    assert cache.find(b"huge") is None and cache.find(b"a")


class Counter:
    """Counts decodings and hits."""

    def __init__(self) -> None:
        self.num_decoded = 0
        self.hits: list[bool] = []

    def on_fetch(self, seconds: float, num_bytes: int) -> None: ...

    def on_failure(self, code: str) -> None: ...

    def on_decode(self, seconds: float) -> None:
        self.num_decoded += 1

    def on_tile_cache(self, is_hit: bool) -> None:
        self.hits.append(is_hit)


@pytest.mark.parametrize(("cache_bytes", "expected"), [(1 << 20, [False, True]), (0, [False] * 2)])
async def test_the_same_picture_is_decoded_once(cache_bytes: int, expected: list[bool]) -> None:
    counter = Counter()
    loader = MediaLoader(MediaSettings(tile_cache_bytes=cache_bytes), PROCESSING, counter)
    await loader.start()
    request = MediaRequest("image", data_url(encoded(photo(300, 120))), "p")
    try:
        first, second = await loader.load(request), await loader.load(request)
        assert first == second and counter.hits == expected
        changed: list[dict[str, Any]] = [{"cache_salt": "mine"}, {"max_tiles": 1}]
        others = [await loader.load(replace(request, **change)) for change in changed]
        assert counter.num_decoded == expected.count(False) + 2
        assert others[0] == first
    finally:
        await loader.stop()
