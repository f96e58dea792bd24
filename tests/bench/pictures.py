"""Pictures and clips for the benches, made on the spot."""

import io
from functools import lru_cache
from typing import Any

import av
import numpy as np
from PIL import Image


def photo(width: int, height: int) -> bytes:
    """A JPEG: smooth colours with some noise, as a photograph has."""
    chance = np.random.default_rng(0)
    coarse = Image.fromarray(chance.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels = soft + chance.normal(0, 6, (height, width, 3))
    return _jpeg(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), quality=85)


def moving_clip(num_frames: int, size: tuple[int, int], gop: int) -> bytes:
    """H.264 in MP4 as x264's `medium` makes it: B-frames, references among them."""
    width, height = size
    chance = np.random.default_rng(0)
    coarse = Image.fromarray(chance.integers(0, 256, (height // 8, width // 4, 3), dtype=np.uint8))
    scene = np.asarray(coarse.resize((width * 2, height * 2)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        video: Any = output.add_stream("h264", rate=30)
        video.width, video.height, video.pix_fmt, video.gop_size = width, height, "yuv420p", gop
        video.options = {"preset": "medium"}
        for index in range(num_frames):
            x, y = (3 * index) % width, (2 * index) % height
            pixels = np.ascontiguousarray(scene[y : y + height, x : x + width])
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels)))
        output.mux(video.encode())
    return buffer.getvalue()


def slow_jpeg(number: int) -> bytes:
    """Within every limit, and a second of work: 16 megapixels in many scans."""
    return _slow_jpeg() + number.to_bytes(8, "big")


@lru_cache(maxsize=1)
def _slow_jpeg() -> bytes:
    data = _jpeg(Image.new("RGB", (4000, 4000), (90, 120, 10)), progressive=True)
    begin = data.rindex(b"\xff\xda")
    scan = data[begin:-2]
    return data[:-2] + scan * 40 + data[-2:]


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()
