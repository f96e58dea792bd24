"""Videos to frames, inside a decoder process. Knows PyAV; never runs in the front end.

FFmpeg with its defaults opens local files and sockets for crafted bytes, so the container is
named from the magic bytes and everything else is switched off. Headers lie: frames are counted
from the packets that are really there.
"""

import io
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from model_runtime.tiling import sample_frame_indices
from server.media.image import to_one_tile
from server.media.jobs import DecodedTiles, DecodeJob, Limits, MediaRefused, undecodable
from server.media.sniff import sniff_video

_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4"}
_MAX_STREAMS = 8


def decode_video(job: DecodeJob) -> DecodedTiles:
    """The sampled frames, one tile each, in order."""
    wanted = _wanted_frames(job)
    frames = [to_one_tile(image, job.tiles) for image in _frames_at(job, wanted)]
    if not frames:
        raise undecodable("video")
    return DecodedTiles([1] * len(frames), [frame.tobytes() for frame in frames])


def _wanted_frames(job: DecodeJob) -> list[int]:
    """Indices of the frames to show, from a count of the packets."""
    num_frames, duration_s = _measure(job)
    if job.fps is None:
        num_wanted = job.num_frames
    else:
        num_wanted = max(1, int(duration_s * job.fps))
    return sample_frame_indices(num_frames, min(num_wanted, job.limits.max_sampled_frames))


def _measure(job: DecodeJob) -> tuple[int, float]:
    """Frames that have data, and the seconds they span."""
    count, first, last = 0, None, 0.0
    with _open(job) as container:
        stream = _video_stream(container)
        for packet in _until_broken(container.demux(stream)):
            if not packet.size:
                continue
            count += 1
            if count > job.limits.max_video_frames:
                raise MediaRefused("media_too_complex", "The video has too many frames.")
            if packet.pts is not None and packet.time_base:
                time = float(packet.pts * packet.time_base)
                first, last = (time if first is None else min(first, time)), max(last, time)
        rate = float(stream.average_rate or 25)
    duration_s = last - (first or 0.0) + (1 / rate if rate > 0 else 0.0)
    if duration_s > job.limits.max_duration_s:
        raise MediaRefused("media_too_long", "The video is too long.")
    if count == 0:
        raise undecodable("video")
    return count, duration_s


def _frames_at(job: DecodeJob, wanted: list[int]) -> list[Image.Image]:
    """Decode straight through; convert the wanted frames only; stop after the last.

    Streams whose tail does not decode give fewer frames than packets: then the wanted indices
    are spread over the frames there are.
    """
    images: dict[int, Image.Image] = {}
    num_decoded = 0
    with _open(job) as container:
        for index, frame in enumerate(_decode(container, job.limits)):
            num_decoded = index + 1
            if index in wanted:
                images[index] = _upright_image(frame)
            if index >= wanted[-1]:
                return [images[index] for index in wanted]
    if not num_decoded:
        return []
    return _frames_at(job, sample_frame_indices(num_decoded, len(wanted)))


def _decode(container: Any, limits: Limits) -> Iterator[VideoFrame]:
    """Frames under the pixel limit, which a stream may change midway."""
    stream = _video_stream(container)
    stream.codec_context.options = {"max_pixels": str(limits.max_video_pixels)}
    for frame in _until_broken(container.decode(stream)):
        if frame.width * frame.height > limits.max_video_pixels:
            raise _too_large(limits)
        yield frame


def _until_broken(items: Iterator[Any]) -> Iterator[Any]:
    """The items up to the first that does not decode: a broken tail ends the video."""
    while True:
        try:
            item = next(items, None)
        except (av.error.FFmpegError, ValueError):
            return
        if item is None:
            return
        yield item


def _open(job: DecodeJob) -> Any:
    """Raises MediaRefused. No probing by name, no protocols, few streams, bounded pixels."""
    form = sniff_video(job.data[0])
    if form is None:
        raise MediaRefused(
            "media_unsupported_type", "The video must be MP4, MOV, WebM, MKV or AVI."
        )
    options = {
        "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
        "protocol_whitelist": "none",
        "max_streams": str(_MAX_STREAMS),
        "max_pixels": str(job.limits.max_video_pixels),
        "probesize": "5000000",
        "analyzeduration": "2000000",
        "enable_drefs": "0",
        "use_absolute_path": "0",
    }
    try:
        return av.open(io.BytesIO(job.data[0]), format=form, options=options, timeout=5)
    except (av.error.FFmpegError, ValueError, MemoryError, OSError) as error:
        raise undecodable("video") from error


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise undecodable("video")
    stream = container.streams.video[0]
    if stream.codec.canonical_name not in _CODECS:
        raise MediaRefused(
            "media_unsupported_codec",
            "The video's codec must be H.264, HEVC, VP8, VP9, AV1 or MPEG-4.",
        )
    return stream


def _upright_image(frame: VideoFrame) -> Image.Image:
    """RGB, turned as the display matrix says (phones record sideways)."""
    pixels = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, quarter_turns)))


def _too_large(limits: Limits) -> MediaRefused:
    megapixels = limits.max_video_pixels // 1_000_000
    return MediaRefused("media_dimensions", f"A video frame exceeds {megapixels} megapixels.")
