"""Tiles equal transformers' Pillow processor, whatever a picture's mode, format or making."""

import random
import struct
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from model_runtime.tiling import choose_grid
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from tests.server.media import pictures as p
from tests.server.media.conftest import PROCESSING, load, load_all
from tests.server.media.gate import media
from tests.server.media.makers import data_url, encoded, photo
from tests.server.media.reference import reference_tiles, upright_rgb

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _started(**settings: Any) -> AsyncIterator[MediaLoader]:
    loader = MediaLoader(MediaSettings(num_decoders=1, **settings), PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate() -> AsyncIterator[MediaLoader]:
    async for loader in _started():
        yield loader


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exact() -> AsyncIterator[MediaLoader]:
    async for loader in _started(exact_resize=True):
        yield loader


async def tiles_of(loader: MediaLoader, data: bytes, **options: Any) -> np.ndarray:
    (tiles,) = (await load(loader, media("image", data_url(data), **options))).tile_sets
    return np.frombuffer(tiles.pixels, np.uint8).reshape(tiles.num_tiles, 56, 56, 3)


def _alpha(mode: str, size: tuple[int, int]) -> Image.Image:
    image = photo(*size, mode)
    image.putalpha(photo(*size, "L", seed=1))
    return image


def _transparent_palette(size: tuple[int, int]) -> bytes:
    return encoded(photo(*size).quantize(16), transparency=bytes(range(0, 256, 16)))


def _grey16(size: tuple[int, int]) -> bytes:
    values = np.asarray(photo(*size, "L"), np.uint16) * 257
    return encoded(Image.fromarray(values))


def _png16(size: tuple[int, int], colour: int) -> bytes:
    """2: RGB, 6: RGBA; 16 bits a sample."""
    width, height = size
    mode = {2: "RGB", 6: "RGBA"}[colour]
    image = photo(width, height) if colour == 2 else _alpha("RGB", size)
    samples = np.asarray(image.convert(mode), ">u2") * 257
    lines = samples.astype(">u2").reshape(height, -1)
    rows = b"".join(b"\0" + line.tobytes() for line in lines)
    return p.png(width, height, rows, bits=16, colour=colour)


def _jpeg(size: tuple[int, int], mode: str = "RGB", **options: Any) -> bytes:
    return encoded(photo(*size, mode), "JPEG", **{"quality": 90, **options})


def _turned(size: tuple[int, int], orientation: int) -> bytes:
    return p.with_segments(p.segment(0xE1, p.exif(orientation)), data=_jpeg(size))


def _animation(size: tuple[int, int], form: str) -> bytes:
    frames = [photo(*size, seed=n) for n in range(3)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


_SMALL, _WIDE, _TALL, _LARGE = (50, 40), (300, 110), (90, 260), (640, 480)
PICTURES: dict[str, bytes] = {
    **{f"{mode}-{size}": encoded(photo(*size, mode)) for size in (_WIDE, _TALL)
       for mode in ("L", "1", "P", "RGB")},
    **{f"{mode}A-{size}": encoded(_alpha(mode, size)) for size in (_SMALL, _WIDE)
       for mode in ("L", "RGB")},
    **{f"tRNS-{size}": _transparent_palette(size) for size in (_SMALL, _TALL)},
    "tRNS-RGB": encoded(photo(*_WIDE), transparency=(10, 20, 30)),
    "tRNS-L": encoded(photo(*_WIDE, "L"), transparency=100),
    **{f"I;16-{size}": _grey16(size) for size in (_SMALL, _WIDE, _LARGE)},
    **{f"RGB16-{size}": _png16(size, 2) for size in (_SMALL, _WIDE)},
    **{f"RGBA16-{size}": _png16(size, 6) for size in (_SMALL, _WIDE)},
    **{f"jpeg-{mode}-{size}": _jpeg(size, mode) for size in (_SMALL, _LARGE)
       for mode in ("RGB", "L", "CMYK")},
    **{f"ycck-{size}": p.ycck(_jpeg(size, "CMYK")) for size in (_SMALL, _WIDE)},
    "cmyk-not-inverted": p.without_adobe(_jpeg(_WIDE, "CMYK")),
    **{f"exif-{n}": _turned(_WIDE, n) for n in range(1, 9)},
    **{f"subsampling-{n}-{size}": _jpeg(size, subsampling=n) for n in (0, 1, 2)
       for size in (_LARGE, (333, 201))},
    **{f"progressive-{size}": _jpeg(size, progressive=True) for size in (_SMALL, _LARGE)},
    **{f"quality-{n}": _jpeg(_LARGE, quality=n) for n in (20, 100)},
    **{f"first-of-{form}": _animation(_WIDE, form) for form in ("GIF", "WEBP", "PNG")},
    **{f"webp-{size}": encoded(photo(*size), "WEBP") for size in (_SMALL, _LARGE)},
    "webp-lossless": encoded(photo(*_WIDE), "WEBP", lossless=True),
    "webp-alpha": encoded(_alpha("RGB", _WIDE), "WEBP"),
    **{f"gif-{size}": encoded(photo(*size), "GIF") for size in (_SMALL, _WIDE)},
    **{f"bmp-{mode}": encoded(photo(*_WIDE, mode), "BMP") for mode in ("RGB", "L", "1", "P")},
    **{f"jpeg-{w}x{h}": _jpeg((w, h)) for w, h in ((56, 56), (57, 56), (112, 56), (1000, 900),
                                                   (2000, 60), (1, 1), (113, 337))},
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
async def test_tiles_equal_the_reference(gate: MediaLoader, exact: MediaLoader, name: str) -> None:
    """To the bit under --exact-resize; JPEGs within two levels without, a value in a thousand
    aside."""
    data = PICTURES[name]
    expected = reference_tiles(upright_rgb(data))
    found = await tiles_of(exact, data)
    is_blended = "A" in name or "tRNS" in name or name == "webp-alpha"  # rounding
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (1 if is_blended else 0)
    fast = np.abs((await tiles_of(gate, data)).astype(int) - expected)
    assert (fast > 2).mean() < 0.001 and fast.max() <= 4 and fast.mean() < 0.6


async def test_there_are_sixty() -> None:
    assert len(PICTURES) >= 60


async def test_grids_equal_the_reference() -> None:
    chance = random.Random(0)
    for _ in range(2_000):
        width, height = chance.randint(1, 3000), chance.randint(1, 3000)
        most = chance.choice([1, 2, 6, 12])
        grid = choose_grid(
            width, height, tile_width=448, tile_height=448, min_tiles=1, max_tiles=most
        )
        expected = get_optimal_tiled_canvas((height, width), (448, 448), 1, most)
        assert (grid.columns, grid.rows) == expected


@pytest.mark.parametrize("size", [(447, 449), (448, 448), (449, 447), (27, 5400), (5400, 27)])
async def test_i32_edges_of_the_grid(gate: MediaLoader, size: tuple[int, int]) -> None:
    tiles = await tiles_of(gate, encoded(photo(*size)))
    assert np.array_equal(tiles, reference_tiles(photo(*size)))


async def test_i43_sixteen_bits_are_scaled_not_clipped(gate: MediaLoader) -> None:
    """256 and 65535 are not the same white."""
    for value in (0, 256, 0x1234, 0x8000, 0xFFFF):
        flat = Image.fromarray(np.full((56, 56), value, np.uint16))
        assert (await tiles_of(gate, encoded(flat)) == round(value / 257)).all()
        line = b"\0" + struct.pack(">H", value) * 56 * 3
        deep = await tiles_of(gate, p.png(56, 56, line * 56, bits=16))
        assert np.abs(deep.astype(int) - value / 257).max() <= 1


async def test_i44_alpha_lies_on_white(gate: MediaLoader) -> None:
    for mode, colour in (("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))):
        assert (await tiles_of(gate, encoded(Image.new(mode, (56, 56), colour))) == 255).all()


async def test_max_tiles_bounds_the_grid(gate: MediaLoader) -> None:
    data = encoded(photo(640, 480))
    counts = [len(await tiles_of(gate, data, max_tiles=most)) for most in (1, 4, None)]
    assert counts == [1, 5, 13]


async def test_hashes_name_bytes_and_processing(gate: MediaLoader) -> None:
    data, other = encoded(photo(100, 50)), encoded(photo(100, 50, seed=1))
    wanted = [data, data, other]
    requests = [media("image", data_url(each)) for each in wanted]
    requests.append(media("image", data_url(data), max_tiles=1))
    loaded = await load_all(gate, requests)
    first, again, different, smaller = (each.tile_sets[0].content_hash for each in loaded)
    assert first == again and len({first, different, smaller}) == 3
