"""Row F22: a decoder that hostile media took over says what it was not asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from server.media.decoder import HEADER
from server.media.jobs import DecodedTiles, Measured
from server.media.loader import MediaLoader
from server.media.types import PlannedMedia
from tests.server.media.conftest import PROCESSING, SETTINGS
from tests.server.media.gate import media, outcome
from tests.server.media.makers import data_url, encoded, photo

FAILED = "media_decode_failed"
TILE = PROCESSING.tile_width * PROCESSING.tile_height * 3


def frame(result: Any) -> bytes:
    payload = result if isinstance(result, bytes) else msgspec.msgpack.encode(result)
    return HEADER.pack(len(payload)) + payload


LIES = {
    "garbage": frame(b"\xc1\xff garbage"),
    "nothing": frame(b""),
    "a terabyte": HEADER.pack(1 << 40) + b"x" * 100_000,
    "too many pixels": frame(DecodedTiles([1], [bytes(100 * TILE)])),
    "pixels instead of a measure": frame(DecodedTiles([1], [bytes(TILE)])),
    "no tiles": frame(Measured([], 100)),
    "minus one tile": frame(Measured([-1], 100)),
    "a million tiles": frame(Measured([1_000_000], 100)),
    "no pixels": frame(Measured([1], -5)),
    "other fields": frame({"type": "Measured", "num_tiles": "many"}),
}


@pytest.fixture
async def loader() -> AsyncIterator[MediaLoader]:
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()
    await asyncio.sleep(0.05)  # the pipes of the dead are closed


def make_liars(loader: MediaLoader, answer: bytes) -> None:
    """All that are there now say this, whatever they are asked."""
    for decoder in loader._processor._decoders._all:
        stdout = asyncio.StreamReader()
        stdout.feed_data(answer)
        decoder._process.stdout = stdout


@pytest.mark.parametrize("name", LIES)
async def test_f22_what_was_not_asked_is_refused(loader: MediaLoader, name: str) -> None:
    """And those that come after it are served by decoders that tell the truth."""
    picture = data_url(encoded(photo(64, 64)))
    make_liars(loader, LIES[name])
    assert (await outcome(loader, media("image", picture))).code == FAILED
    for decoder in list(loader._processor._decoders._all):  # those that never got to lie
        await decoder.kill()
    assert (await outcome(loader, media("image", picture))).code == "ok"


async def test_f22_pixels_that_were_not_announced_are_refused(loader: MediaLoader) -> None:
    """The measure was true; what follows has another size."""
    request = media("image", data_url(encoded(photo(64, 64))))
    async with loader.open([request]) as batch:
        assert isinstance(batch.planned[0], PlannedMedia)
        for size in (0, TILE - 1, 2 * TILE):
            make_liars(loader, frame(DecodedTiles([1], [bytes(size)])))
            with pytest.raises(Exception, match="header announces") as caught:
                await batch.load()
            assert caught.value.code == FAILED  # type: ignore[attr-defined]
