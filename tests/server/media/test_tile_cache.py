"""Decoded once, for everybody who may know; and never longer than there is memory for it."""

from dataclasses import replace
from typing import Any

import pytest

from model_runtime.protocol import TileSet
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from server.media.tile_cache import TileCache
from server.media.types import LoadedMedia, MediaRequest
from tests.server.media.conftest import PROCESSING, SETTINGS, load, load_all
from tests.server.media.makers import data_url, encoded, photo
from tests.site import Site


def media(num_bytes: int) -> LoadedMedia:
    return LoadedMedia("image", (TileSet(b"h", 1, bytes(num_bytes)),))


def test_the_least_recently_used_goes_first() -> None:
    cache = TileCache(100)
    for key in (b"a", b"b"):
        cache.keep(key, media(50))
    assert cache.find(b"a")  # used again
    cache.keep(b"c", media(50))
    assert cache.find(b"b") is None and cache.find(b"a") and cache.find(b"c")
    cache.keep(b"huge", media(101))
    assert cache.find(b"huge") is None and cache.find(b"a")


class Counter:
    """Counts decodings and hits."""

    def __init__(self) -> None:
        self.num_fetched = 0
        self.num_decoded = 0
        self.hits: list[bool] = []

    def on_fetch(self, seconds: float, num_bytes: int) -> None:
        self.num_fetched += 1

    def on_failure(self, code: str) -> None: ...

    def on_wait(self, seconds: float) -> None: ...

    def on_decode(self, seconds: float) -> None:
        self.num_decoded += 1

    def on_tile_cache(self, is_hit: bool) -> None:
        self.hits.append(is_hit)


async def test_the_same_url_at_the_same_time_is_fetched_and_decoded_once(site: Site) -> None:
    url = site.put("/a.png", encoded(photo(300, 120)))
    counter = Counter()
    loader = MediaLoader(SETTINGS, PROCESSING, counter)
    await loader.start()
    try:
        wanted = [MediaRequest("image", url, f"p{i}") for i in range(5)]
        first, *others = await load_all(loader, wanted)
        assert all(other == first for other in others)
        assert counter.num_fetched == counter.num_decoded == len(site.seen) == 1
    finally:
        await loader.stop()


@pytest.mark.parametrize(("cache_bytes", "expected"), [(1 << 20, [False, True]), (0, [False] * 2)])
async def test_the_same_picture_is_decoded_once(cache_bytes: int, expected: list[bool]) -> None:
    counter = Counter()
    loader = MediaLoader(MediaSettings(tile_cache_bytes=cache_bytes), PROCESSING, counter)
    await loader.start()
    request = MediaRequest("image", data_url(encoded(photo(300, 120))), "p")
    try:
        first, second = await load(loader, request), await load(loader, request)
        assert first == second and counter.hits == expected
        changed: list[dict[str, Any]] = [{"cache_salt": "mine"}, {"max_tiles": 1}]
        others = [await load(loader, replace(request, **change)) for change in changed]
        assert counter.num_decoded == expected.count(False) + 2
        assert others[0].tile_sets[0].pixels == first.tile_sets[0].pixels
        assert others[0].tile_sets[0].content_hash != first.tile_sets[0].content_hash
    finally:
        await loader.stop()
