"""Pictures to tiles, inside a decoder process. Knows Pillow; never runs in the front end.

Pixels equal those of transformers' `GotOcr2ImageProcessorPil` before normalisation. Beyond
it: EXIF orientation is applied, alpha is laid on white, 16-bit grey is scaled, not clipped.
"""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from model_runtime.tiling import choose_grid
from server.media.jobs import DecodedTiles, DecodeJob, Limits, MediaRefused, TileParams, undecodable
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
    MemoryError,
)


def decode_image(job: DecodeJob) -> DecodedTiles:
    tiles = cut_tiles(open_rgb(job.data[0], job.limits), job.tiles)
    return DecodedTiles([len(tiles)], [b"".join(tile.tobytes() for tile in tiles)])


def decode_frame_list(job: DecodeJob) -> DecodedTiles:
    """A video given as pictures: each becomes one tile."""
    frames = [to_one_tile(open_rgb(data, job.limits), job.tiles) for data in job.data]
    return DecodedTiles([1] * len(frames), [frame.tobytes() for frame in frames])


def open_rgb(data: bytes, limits: Limits) -> Image.Image:
    """Bytes to an upright RGB picture. Raises MediaRefused."""
    form = sniff_image(data)
    if form is None:
        raise MediaRefused(
            "media_unsupported_type", "The image must be JPEG, PNG, WebP, GIF or BMP."
        )
    if form == "JPEG" and data.count(b"\xff\xda") > limits.max_jpeg_scans:
        raise MediaRefused("media_too_complex", "The JPEG has too many scans.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[form]) as image:
                check_size(image.width, image.height, limits)
                return _upright_rgb(image)
    except MediaRefused:
        raise
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
    grid = choose_grid(
        image.width,
        image.height,
        tile_width=params.width,
        tile_height=params.height,
        min_tiles=params.min_tiles,
        max_tiles=params.max_tiles,
    )
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


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    upright = ImageOps.exif_transpose(image)
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
