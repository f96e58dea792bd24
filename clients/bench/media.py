"""Pictures and clips as data: URLs, made from a number: the same number, the same bytes."""

import base64
import io
import random

import av
from PIL import Image

_FRAME_RATE = 24
_JPEG_QUALITY = 85
_SHARE_OF_DETAIL = 0.2  # about 0.2 bytes a pixel as a JPEG, as photographs have
_CODECS = {"libx264": {"preset": "veryfast"}, "mpeg4": {}}  # the first that this FFmpeg has


def image_url(chance: random.Random, size: tuple[int, int]) -> str:
    """A JPEG, `size` as (width, height)."""
    buffer = io.BytesIO()
    _picture(chance, size).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return _data_url("image/jpeg", buffer.getvalue())


def video_url(chance: random.Random, size: tuple[int, int], num_frames: int) -> str:
    """An MP4 (H.264 where it can be had) of a camera that pans over a picture."""
    width, height = size
    scene = _picture(chance, (2 * width, height))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        codec = next(name for name in _CODECS if name in av.codecs_available)
        stream = output.add_stream(codec, _FRAME_RATE, options=_CODECS[codec])
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for index in range(num_frames):
            left = index * width // num_frames
            view = scene.crop((left, 0, left + width, height))
            frame = av.VideoFrame.from_image(view)  # type: ignore[no-untyped-call]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return _data_url("video/mp4", buffer.getvalue())


def _picture(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    """Soft colours with some detail: compresses like a photograph, unlike noise."""
    soft, detail = _patches(chance, (8, 8)), _patches(chance, (size[0] // 4, size[1] // 4))
    scaled = [image.resize(size, Image.Resampling.BICUBIC) for image in (soft, detail)]
    return Image.blend(scaled[0], scaled[1], _SHARE_OF_DETAIL)


def _patches(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("RGB", size, chance.randbytes(3 * size[0] * size[1]))


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
