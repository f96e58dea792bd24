"""Table I: pictures that lie, explode, hide something or are none."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from server.errors import MediaError
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from tests.server.media import corpus_images as corpus
from tests.server.media import pictures as p
from tests.server.media.conftest import PROCESSING, load_all
from tests.server.media.gate import OK, SIZE, Row, check, ids, media, outcome
from tests.server.media.makers import data_url, encoded, photo, png_header
from tests.server.media.processes import memory_peak, memory_used
from tests.server.media.reference import reference_tiles

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETTINGS = MediaSettings(num_decoders=1, image_decode_timeout_s=6.0)
GOOD = encoded(photo(56, 56))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate() -> AsyncIterator[MediaLoader]:
    """As shipped, with one decoder."""
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


def decoder_pid(gate: MediaLoader) -> int:
    (decoder,) = gate._processor._decoders._all
    return decoder.pid


async def tiles_of(gate: MediaLoader, data: bytes) -> np.ndarray:
    found = await outcome(gate, media("image", data_url(data)))
    assert found.loaded is not None, found.code
    (tiles,) = found.loaded.tile_sets
    return np.frombuffer(tiles.pixels, np.uint8).reshape(tiles.num_tiles, 56, 56, 3)


@pytest.mark.parametrize(
    "row", [*corpus.SIZES, *corpus.METADATA, *corpus.KINDS, *corpus.DAMAGE], ids=ids
)
async def test_images(gate: MediaLoader, row: Row) -> None:
    """The outcome is the table's; the decoder lives, and its next picture is right."""
    pid = decoder_pid(gate)
    await check(gate, row, media("image", data_url(row.value())), SETTINGS.image_decode_timeout_s)
    assert decoder_pid(gate) == pid, "the decoder was lost"
    assert np.array_equal(await tiles_of(gate, GOOD), reference_tiles(photo(56, 56)))


@pytest.mark.parametrize(
    ("name", "within_s"),
    [("I06", 0.3), ("I08", 0.3), ("I01", 0.3), *((f"I46.{n}", 1.0) for n in range(1, 8))],
)
async def test_refused_at_once(gate: MediaLoader, name: str, within_s: float) -> None:
    (row,) = [row for row in (*corpus.SIZES, *corpus.DAMAGE) if row.id == name]
    request = media("image", data_url(row.value()))
    assert (await outcome(gate, request)).seconds < within_s


async def test_bombs_take_no_memory(gate: MediaLoader) -> None:
    """Refused by their headers: neither the front end nor a fresh decoder grows."""
    fresh = MediaLoader(SETTINGS, PROCESSING)
    await fresh.start()
    try:
        await tiles_of(fresh, GOOD)
        ours, theirs = memory_used(), memory_peak(decoder_pid(fresh))
        for name in ("I01", "I02", "I04", "I05", "I06", "I10", "I13"):
            (row,) = [row for row in corpus.SIZES if row.id == name]
            assert (await outcome(fresh, media("image", data_url(row.value())))).code == SIZE
        assert memory_used() - ours < 20 << 20
        assert memory_peak(decoder_pid(fresh)) - theirs < 20 << 20
    finally:
        await fresh.stop()


async def test_i11_pixels_are_summed_before_any_is_decoded(gate: MediaLoader) -> None:
    peak = memory_peak(decoder_pid(gate))
    wanted = [media("image", data_url(png_header(6000, 5000 - n))) for n in range(16)]
    with pytest.raises(MediaError) as caught:
        await asyncio.wait_for(load_all(gate, wanted), 5)
    assert caught.value.code == SIZE and caught.value.param == wanted[0].param
    assert memory_peak(decoder_pid(gate)) - peak < 20 << 20


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
async def test_i14_the_first_frame_is_taken(gate: MediaLoader, form: str) -> None:
    frames = [photo(64, 64, seed=n) for n in range(4)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert np.array_equal(
        await tiles_of(gate, data), reference_tiles(corpus.opened(data).convert("RGB"))
    )
    assert abs((await tiles_of(gate, data)).astype(int) - reference_tiles(frames[0])).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("little_endian", [True, False])
async def test_i19_orientations(gate: MediaLoader, orientation: int, little_endian: bool) -> None:
    """Where the picture's upper left corner goes, for each of EXIF's eight."""
    pixels = np.full((40, 56, 3), 255, np.uint8)
    pixels[:20, :28] = (255, 0, 0)
    block = p.exif(orientation, little_endian=little_endian)
    data = p.with_segments(
        p.segment(0xE1, block), data=encoded(Image.fromarray(pixels), "JPEG", quality=95)
    )
    corner = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    tile = (await tiles_of(gate, data))[-1]
    down, across = (slice(8, 20) if side == 0 else slice(36, 48) for side in corner[orientation])
    is_red = tile[..., 1] < 100
    assert is_red[down, across].all() and is_red.mean() < 0.3


async def test_i30_tiny_pictures_are_deterministic(gate: MediaLoader) -> None:
    fresh = MediaLoader(SETTINGS, PROCESSING)
    await fresh.start()
    try:
        for size in ((1, 1), (1, 2), (2, 1), (3, 3)):
            data = encoded(photo(*size))
            assert np.array_equal(await tiles_of(gate, data), await tiles_of(fresh, data))
    finally:
        await fresh.stop()


async def test_i23_avif_by_option() -> None:
    loader = MediaLoader(MediaSettings(num_decoders=1, allow_avif=True), PROCESSING)
    await loader.start()
    try:
        data = encoded(photo(200, 100), "AVIF")
        expected = reference_tiles(corpus.opened(data).convert("RGB"))
        assert np.array_equal(await tiles_of(loader, data), expected)
        cut = await outcome(loader, media("image", data_url(data[: len(data) // 2])))
        assert cut.code != OK
    finally:
        await loader.stop()


async def test_i48_the_first_of_two_pictures_is_taken(gate: MediaLoader) -> None:
    first, second = photo(120, 80), photo(300, 20, seed=1)
    data = encoded(first, "JPEG") + encoded(second, "JPEG")
    expected = reference_tiles(corpus.opened(encoded(first, "JPEG")))
    assert abs((await tiles_of(gate, data)).astype(int) - expected).max() <= 2


def _all_rows() -> list[Row]:
    return [*corpus.SIZES, *corpus.METADATA, *corpus.KINDS, *corpus.DAMAGE]


async def test_the_table_is_whole() -> None:
    """I41 is in test_mutations.py, I42 to I44 in test_image_fidelity.py."""
    numbers = [*range(1, 28), *range(30, 34), *range(40, 50)]
    there = {row.id.split(".")[0] for row in _all_rows()} | {"I11", "I41", "I42", "I43", "I44"}
    assert there == {f"I{n:02}" for n in numbers}
