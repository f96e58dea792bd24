"""Video files made on the spot: every frame differs from every other, and things move in it."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np

Frames = Sequence[np.ndarray]


def moving_frame(index: int, size: tuple[int, int]) -> np.ndarray:
    """Stripes that wander, a block that jumps, and the index's bits as bright and dark squares."""
    width, height = size
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = 128 + 90 * np.sin((x + 3 * index) / 7)
    pixels[..., 1] = 128 + 90 * np.cos((y - 2 * index) / 6)
    pixels[..., 2] = (x + y + 5 * index) % 200
    left, top = index * 11 % max(1, width - 8), index * 7 % max(1, height - 8)
    pixels[top : top + 8, left : left + 8] = (250, 250, 40)
    for bit in range(8):
        shade = 240 if index >> bit & 1 else 15
        pixels[: height // 4, bit * width // 8 : (bit + 1) * width // 8] = shade
    return pixels


@dataclass(frozen=True, slots=True)
class Clip:
    """A recipe. `times`: presentation ticks of `rate`; None: one after another."""

    num_frames: int = 40
    codec: str = "libx264"
    container: str = "mp4"
    size: tuple[int, int] = (64, 48)
    rate: Fraction | int = 24
    gop: int = 12
    pix_fmt: str = "yuv420p"
    times: tuple[int, ...] | None = None
    options: dict[str, str] = field(default_factory=dict, hash=False)
    muxing: dict[str, str] = field(default_factory=dict, hash=False)

    def __call__(self) -> bytes:
        return _made(self)


_FAST = {
    "libx264": {"preset": "veryfast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


@cache
def _made(clip: Clip) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=clip.container, options=clip.muxing) as output:
        stream = add_video(output, clip)
        for packet in encoded_packets(stream, clip):
            output.mux(packet)
    return buffer.getvalue()


def add_video(output: Any, clip: Clip) -> Any:
    options = {**_FAST.get(clip.codec, {}), **clip.options}
    stream = output.add_stream(clip.codec, rate=clip.rate, options=options)
    stream.width, stream.height = clip.size
    stream.pix_fmt, stream.gop_size = clip.pix_fmt, clip.gop
    stream.codec_context.thread_count = 1
    stream.time_base = stream.codec_context.time_base = Fraction(1) / Fraction(clip.rate)
    return stream


def encoded_packets(stream: Any, clip: Clip) -> list[Any]:
    packets = []
    for index in range(clip.num_frames):
        frame = av.VideoFrame.from_ndarray(moving_frame(index, clip.size))
        frame.pts = clip.times[index] if clip.times else index
        frame.time_base = Fraction(1) / Fraction(clip.rate)
        packets += stream.encode(frame)
    return packets + stream.encode()


def with_sound(clip: Clip, num_sounds: int = 1, num_videos: int = 1) -> bytes:
    """The clip with more tracks: sounds, and further videos of other sizes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=clip.container) as output:
        videos = [add_video(output, clip)]
        others = [Clip(clip.num_frames, clip.codec, size=(32, 32)) for _ in range(num_videos - 1)]
        videos += [add_video(output, other) for other in others]
        sounds = [output.add_stream("aac", rate=44100) for _ in range(num_sounds)]
        for stream, recipe in zip(videos, [clip, *others], strict=True):
            for packet in encoded_packets(stream, recipe):
                output.mux(packet)
        for stream in sounds:
            for packet in _silence(stream, 1.0):
                output.mux(packet)
    return buffer.getvalue()


def sound_only() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44100)
        for packet in _silence(stream, 0.5):
            output.mux(packet)
    return buffer.getvalue()


def _silence(stream: Any, seconds: float) -> list[Any]:
    samples = np.zeros((1, int(44100 * seconds)), np.float32)
    sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    sound.sample_rate = 44100
    return [*stream.encode(sound), *stream.encode()]


def growing(first: tuple[int, int], then: tuple[int, int], num_frames: int = 4) -> bytes:
    """One stream whose pictures change their size midway, as its new parameter sets say."""
    repeat = {"x264-params": "repeat-headers=1:annexb=1", "bf": "0", "qp": "51"}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as output:
        recipe = Clip(num_frames, size=first, options=repeat)
        stream = add_video(output, recipe)
        for packet in encoded_packets(stream, recipe):
            output.mux(packet)
        for index, packet in enumerate(_annex_b(Clip(num_frames, size=then, options=repeat))):
            moved = av.Packet(packet)
            moved.stream, moved.time_base = stream, stream.time_base
            moved.pts = moved.dts = num_frames + index
            output.mux(moved)
    return buffer.getvalue()


def _annex_b(clip: Clip) -> list[bytes]:
    with av.open(io.BytesIO(), "w", format="h264") as output:
        stream = add_video(output, clip)
        return [bytes(packet) for packet in encoded_packets(stream, clip)]


def swapped_packets(data: bytes, container: str, edit: Callable[[list[Any]], list[Any]]) -> bytes:
    """The same packets, dropped, doubled or re-timed by `edit`."""
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(buffer, "w", format=container) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet in edit(packets):
            packet.stream = stream
            output.mux(packet)
    return buffer.getvalue()
