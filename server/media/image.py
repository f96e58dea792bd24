"""Pictures to tiles, inside a decoder process. Knows Pillow; never runs in the front end.

Pixels equal those of transformers' `GotOcr2ImageProcessorPil` before normalisation. Beyond
it: EXIF orientation is applied, alpha is laid on white, 16-bit grey is scaled, not clipped.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from model_runtime.tiling import TileGrid, choose_grid
from server.media.fast_resize import can_cut_fast, cut_tiles_fast
from server.media.headers import TooManyPartsError, check_jpeg, check_png
from server.media.jobs import (
    DecodedTiles,
    DecodeJob,
    Limits,
    Measured,
    MediaRefused,
    MediaSource,
    TileParams,
    undecodable,
)
from server.media.sniff import sniff_image

_DECODE_ERRORS = (  # Pillow raises all of these for damaged files
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    AttributeError,
    UnidentifiedImageError,
)

_CHECKS = {"JPEG": check_jpeg, "PNG": check_png}

_TURNS = {  # EXIF orientation → what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = {5, 6, 7, 8}


def measure_image(source: MediaSource) -> Measured:
    """From the header: the grid of the upright picture."""
    with opened(source.data[0], source.limits) as image:
        width, height = _upright_size(image)
        grid = _grid(width, height, source.tiles)
        return Measured([grid.num_tiles], width * height)


def measure_frame_list(source: MediaSource) -> Measured:
    """A video given as pictures: each becomes one tile."""
    num_pixels = 0
    for data in source.data:
        with opened(data, source.limits) as image:
            num_pixels += image.width * image.height
    return Measured([1] * len(source.data), num_pixels)


def decode_image(job: DecodeJob) -> DecodedTiles:
    """JPEGs are what comes in numbers and in megapixels: they take the fast way to tiles."""
    source = job.source
    image = open_rgb(source.data[0], source.limits)
    grid = _grid(image.width, image.height, source.tiles)
    if sniff_image(source.data[0]) == "JPEG" and can_cut_fast(image, source.tiles):
        return DecodedTiles([grid.num_tiles], [cut_tiles_fast(image, grid, source.tiles)])
    tiles = cut_tiles(image, source.tiles)
    return DecodedTiles([len(tiles)], [b"".join(tile.tobytes() for tile in tiles)])


def decode_frame_list(job: DecodeJob) -> DecodedTiles:
    source = job.source
    frames = [to_one_tile(open_rgb(data, source.limits), source.tiles) for data in source.data]
    return DecodedTiles([1] * len(frames), [frame.tobytes() for frame in frames])


def open_rgb(data: bytes, limits: Limits) -> Image.Image:
    """Bytes to an upright RGB picture. Raises MediaRefused."""
    with opened(data, limits) as image:
        return _upright_rgb(image)


@contextmanager
def opened(data: bytes, limits: Limits) -> Iterator[Image.Image]:
    """A picture within the limits, of which nothing but the header is read. Raises MediaRefused,
    also for what goes wrong inside the block."""
    form = sniff_image(data)
    if form is None or (form == "AVIF" and not limits.allows_avif):
        raise MediaRefused(
            "media_unsupported_type", "The image must be JPEG, PNG, WebP, GIF or BMP."
        )
    if form == "JPEG" and data.count(b"\xff\xda") > limits.max_jpeg_scans:
        raise MediaRefused("media_too_complex", "The JPEG has too many scans.")
    try:
        if check_parts := _CHECKS.get(form):
            check_parts(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[form]) as image:
                check_size(image.width, image.height, limits)
                yield image
    except MediaRefused:
        raise
    except TooManyPartsError as error:
        raise MediaRefused("media_too_complex", "The image has too many parts.") from error
    except Image.DecompressionBombError as error:
        raise _too_large(limits) from error
    except _DECODE_ERRORS as error:
        raise undecodable("image") from error


def check_size(width: int, height: int, limits: Limits) -> None:
    shorter, longer = sorted((width, height))
    if shorter < 1 or longer > limits.max_side or width * height > limits.max_pixels:
        raise _too_large(limits)
    if longer > limits.max_aspect_ratio * shorter:
        raise MediaRefused(
            "media_dimensions", f"The image is longer than {limits.max_aspect_ratio}:1."
        )


def cut_tiles(image: Image.Image, params: TileParams) -> list[Image.Image]:
    """The grid's cells row by row, then the thumbnail when there is more than one."""
    grid = _grid(image.width, image.height, params)
    if grid.num_cells == 1:
        return [to_one_tile(image, params)]
    size = (params.width * grid.columns, params.height * grid.rows)
    whole = image.resize(size, params.resample)
    cells = [
        whole.crop((x, y, x + params.width, y + params.height))
        for y in range(0, size[1], params.height)
        for x in range(0, size[0], params.width)
    ]
    return [*cells, to_one_tile(image, params)]


def to_one_tile(image: Image.Image, params: TileParams) -> Image.Image:
    return image.resize((params.width, params.height), params.resample)


def _grid(width: int, height: int, params: TileParams) -> TileGrid:
    return choose_grid(
        width,
        height,
        tile_width=params.width,
        tile_height=params.height,
        min_tiles=params.min_tiles,
        max_tiles=params.max_tiles,
    )


def _orientation(image: Image.Image) -> int:
    """EXIF's, by what stands before the pixels: Pillow's PNG reader would decode to find more."""
    exif = Image.Image.getexif(image)
    return int(exif.get(ExifTags.Base.Orientation, 1))


def _upright_size(image: Image.Image) -> tuple[int, int]:
    is_on_its_side = _orientation(image) in _ON_ITS_SIDE
    return (image.height, image.width) if is_on_its_side else (image.width, image.height)


def _upright_rgb(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    image.load()
    upright = image.transpose(turn) if turn is not None else image
    if upright.mode.startswith("I") or upright.mode == "F":
        return _scale_to_8_bits(upright).convert("RGB")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return upright.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits by its upper byte; Pillow's own conversion clips at 255."""
    values = np.clip(np.asarray(image, dtype=np.float64), 0, 65535)
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _too_large(limits: Limits) -> MediaRefused:
    return MediaRefused(
        "media_dimensions",
        f"The image must have 1 to {limits.max_side} pixels a side and at most "
        f"{limits.max_pixels // 1_000_000} megapixels.",
    )
