"""Tiles equal transformers' Pillow processor; hostile pictures are refused and harm nobody."""

import asyncio
import io
import os
import random
import signal
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import GotOcr2ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from model_runtime.tiling import choose_grid
from server.errors import MediaError
from server.media.loader import MediaLoader
from server.media.types import MediaRequest
from tests.server.media.conftest import SETTINGS, load, load_all
from tests.server.media.makers import data_url, encoded, photo, png_header

REFERENCE = GotOcr2ImageProcessorPil(
    size={"height": 56, "width": 56}, do_rescale=False, do_normalize=False, crop_to_patches=True
)


def request(data: bytes, media_type: str = "image/png", **options: Any) -> MediaRequest:
    return MediaRequest("image", data_url(data, media_type), "part", **options)


async def tiles_of(loader: MediaLoader, data: bytes, **options: Any) -> np.ndarray:
    (tiles,) = (await load(loader, request(data, **options))).tile_sets
    pixels = np.frombuffer(tiles.pixels, np.uint8)
    return pixels.reshape(tiles.num_tiles, 56, 56, 3)


async def refusal(loader: MediaLoader, data: bytes) -> str | None:
    with pytest.raises(MediaError) as caught:
        await load(loader, request(data))
    assert caught.value.param == "part"
    return caught.value.code


def reference_tiles(image: Image.Image) -> np.ndarray:
    pixels = REFERENCE(image, return_tensors="np")["pixel_values"]
    return np.asarray(pixels).transpose(0, 2, 3, 1).astype(np.uint8)


def test_grids_equal_the_reference() -> None:
    chance = random.Random(0)
    for _ in range(2_000):
        width, height = chance.randint(1, 3000), chance.randint(1, 3000)
        most = chance.choice([1, 2, 6, 12])
        grid = choose_grid(
            width, height, tile_width=448, tile_height=448, min_tiles=1, max_tiles=most
        )
        expected = get_optimal_tiled_canvas((height, width), (448, 448), 1, most)
        assert (grid.columns, grid.rows) == expected


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("size", [(56, 56), (200, 120), (31, 400), (640, 480), (1, 1), (57, 55)])
async def test_tiles_equal_the_reference(
    loader: MediaLoader, exact_loader: MediaLoader, form: str, size: tuple[int, int]
) -> None:
    data = encoded(photo(*size), form)
    with Image.open(io.BytesIO(data)) as image:
        expected = reference_tiles(image.convert("RGB"))
    difference = np.abs(await tiles_of(loader, data) - expected.astype(int)).max()
    assert difference <= (2 if form == "JPEG" else 0)
    assert np.array_equal(await tiles_of(exact_loader, data), expected)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I;16"])
async def test_all_modes_become_rgb(loader: MediaLoader, mode: str) -> None:
    image = photo(60, 60, "RGB" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    form = "TIFF" if mode == "CMYK" else "PNG"
    data = encoded(image, "JPEG" if form == "TIFF" else form)
    tiles = await tiles_of(loader, data)
    expected = reference_tiles(photo(60, 60).convert("L").convert("RGB"))
    if mode in ("L", "I;16"):
        assert np.array_equal(tiles, expected)
    assert tiles.shape == (1, 56, 56, 3) and tiles.std() > 5


async def test_alpha_lies_on_white(loader: MediaLoader) -> None:
    image = Image.new("RGBA", (56, 56), (255, 0, 0, 0))
    assert (await tiles_of(loader, encoded(image)) == 255).all()


async def test_exif_orientation_is_applied(loader: MediaLoader) -> None:
    image = photo(80, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    turned = await tiles_of(loader, encoded(image, exif=exif))
    expected = reference_tiles(image.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(turned, expected)


async def test_max_tiles_bounds_the_grid(loader: MediaLoader) -> None:
    data = encoded(photo(640, 480))
    counts = [len(await tiles_of(loader, data, max_tiles=most)) for most in (1, 4, None)]
    assert counts == [1, 5, 13]


async def test_hashes_name_bytes_and_processing(loader: MediaLoader) -> None:
    data, other = encoded(photo(100, 50)), encoded(photo(100, 50, seed=1))
    requests = [request(data), request(data), request(other), request(data, max_tiles=1)]
    loaded = await load_all(loader, requests)
    first, again, different, smaller = (media.tile_sets[0].content_hash for media in loaded)
    assert first == again and len({first, different, smaller}) == 3


BOMBS = {
    "png 15000x15000": (png_header(15_000, 15_000), "media_dimensions"),
    "png huge": (png_header(2**31 - 1, 2**31 - 1), "media_dimensions"),
    "thin": (png_header(1, 201), "media_dimensions"),
    "webp 34 bytes": (
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f"
        + struct.pack("<I", (16383 - 1) | (5400 - 1) << 14)
        + b"\x07\x10\x11\x11\x88\x88\xfe\x07\0",
        "media_dimensions",
    ),
    "scans": (encoded(photo(64, 64), "JPEG") + b"\xff\xda" * 100, "media_too_complex"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "media_unsupported_type"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "media_unsupported_type"),
    "tiff": (encoded(photo(8, 8), "TIFF"), "media_unsupported_type"),
    "mp4": (b"\0\0\0\x18ftypmp42", "media_unsupported_type"),
    "gif only a name": (b"GIF89a", "media_decode_failed"),
    "png cut": (encoded(photo(64, 64))[:200], "media_decode_failed"),
    "jpeg cut": (encoded(photo(300, 300), "JPEG")[:2000], "media_decode_failed"),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_hostile_pictures_are_refused(loader: MediaLoader, name: str) -> None:
    data, code = BOMBS[name]
    assert await refusal(loader, data) == code
    assert len(await tiles_of(loader, encoded(photo(56, 56)))) == 1  # the next one is fine


async def test_mutated_pictures_never_surprise(loader: MediaLoader) -> None:
    chance = random.Random(5)
    originals = [encoded(photo(90, 70), form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    for _ in range(200):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            await load(loader, request(bytes(data)))
        except MediaError as error:
            assert error.code and error.code.startswith("media_")


async def test_a_killed_decoder_costs_its_own_request_only(loader: MediaLoader) -> None:
    slow = request(encoded(photo(3000, 1300), "JPEG", quality=40))
    others = [request(encoded(photo(56, 56, seed=i))) for i in range(6)]
    for decoder in list(loader._processor._decoders._all)[:1]:
        os.kill(decoder.pid, signal.SIGKILL)
    results = await asyncio.gather(
        *(load(loader, each) for each in [slow, *others]), return_exceptions=True
    )
    failed = [result for result in results if isinstance(result, Exception)]
    assert len(failed) <= 1 and all(isinstance(error, MediaError) for error in failed)
    for _ in range(4):
        assert len(await tiles_of(loader, encoded(photo(56, 56)))) == 1
    assert len(loader._processor._decoders._all) == SETTINGS.num_decoders
