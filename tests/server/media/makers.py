"""Pictures and clips for the media tests, made on the spot."""

import base64
import io
import struct
from typing import Any

import av
import numpy as np
from PIL import Image


def photo(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth colours with some noise: compresses and resizes like a photograph."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(soft, np.float32) + chance.normal(0, 6, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and has nothing behind it."""
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + chunk_of(b"IDAT", zlib.compress(b"\0" * 64))


def chunk_of(name: bytes, content: bytes) -> bytes:
    import zlib

    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def clip(
    num_frames: int = 24,
    *,
    codec: str = "h264",
    container: str = "mp4",
    size: tuple[int, int] = (64, 48),
    rate: int = 24,
    gop: int = 12,
    audio: bool = False,
) -> bytes:
    """Frame i is grey of brightness 10 + i * step, its upper left quarter red."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        video: Any = output.add_stream(codec, rate=rate)
        video.width, video.height = size
        video.pix_fmt, video.gop_size = "yuv420p", gop
        sound: Any = output.add_stream("aac", rate=44100) if audio else None
        for index in range(num_frames):
            output.mux(video.encode(av.VideoFrame.from_ndarray(frame(index, num_frames, size))))
        output.mux(video.encode())
        if sound is not None:
            _add_sound(output, sound, num_frames / rate)
    return buffer.getvalue()


def frame(index: int, num_frames: int, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    pixels = np.full((height, width, 3), 10 + index * (200 // num_frames), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 20)
    return pixels


def _add_sound(output: Any, stream: Any, seconds: float) -> None:
    samples = np.zeros((1, int(44100 * seconds)), np.float32)
    sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    sound.sample_rate = 44100
    output.mux(stream.encode(sound))
    output.mux(stream.encode())


_TURNS = {  # the upper left four numbers of a display matrix
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def rotated(mp4: bytes) -> bytes:
    """The clip with a display matrix of 90 degrees in its track header, as phones write it."""
    return turned(mp4, 90)


def turned(mp4: bytes, degrees: int) -> bytes:
    """To be shown turned clockwise."""
    at = mp4.index(b"tkhd") + 4
    matrix = at + 4 + 4 * 5 + 8 + 8  # version 0: times, id, reserved, duration, reserved, volume…
    a, b, c, d = (value << 16 for value in _TURNS[degrees])
    turn = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    assert mp4[matrix : matrix + 36] == identity
    return mp4[:matrix] + turn + mp4[matrix + 36 :]
