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
from av.stream import Disposition
from av.video.frame import VideoFrame
from PIL import Image

from model_runtime.tiling import sample_frame_indices
from server.media.clip_index import ClipIndex, read_index
from server.media.image import to_one_tile
from server.media.jobs import (
    DecodedTiles,
    DecodeJob,
    Limits,
    Measured,
    MediaRefused,
    MediaSource,
    WantedFrame,
    undecodable,
)
from server.media.sniff import sniff_video

_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4"}
_MAX_STREAMS = 8


def measure_video(source: MediaSource) -> Measured:
    """Which frames will be shown; each is one tile."""
    with _open(source) as container:
        stream = _video_stream(container)
        num_pixels = stream.codec_context.width * stream.codec_context.height
        if num_pixels > source.limits.max_video_pixels:
            raise _too_large(source.limits)
        index = read_index(_until_broken(container.demux(stream)), stream, source.limits)
    frames = _wanted_frames(source, index)
    return Measured([1] * len(frames), num_pixels, [index.wanted(i) for i in frames])


def decode_video(job: DecodeJob) -> DecodedTiles:
    """The measured frames, one tile each, in order."""
    frames = _found_by_time(job) or _found_by_count(job)
    tiles = [to_one_tile(image, job.source.tiles).tobytes() for image in frames]
    return DecodedTiles([1] * len(tiles), tiles)


def _wanted_frames(source: MediaSource, index: ClipIndex) -> list[int]:
    inside = index.frames_between(source.start_s, source.end_s)
    if not inside:
        raise MediaRefused(
            "media_decode_failed", "The video shows nothing between its start and end."
        )
    num_wanted = source.num_frames
    if source.fps is not None:
        seconds = index.duration_s * len(inside) / index.num_frames
        num_wanted = max(1, int(seconds * source.fps))
    num_wanted = min(num_wanted, source.limits.max_sampled_frames)
    return [inside[i] for i in sample_frame_indices(len(inside), num_wanted)]


def _found_by_time(job: DecodeJob) -> list[Image.Image]:
    """Only what the wanted frames need is decoded. Empty when a frame does not turn up where its
    packet says: then there is no way but from the beginning."""
    limits = job.source.limits
    with _open(job.source) as container:
        stream = _video_stream(container)
        try:
            images = list(_sought(container, stream, job.frames, limits))
        except (av.error.FFmpegError, ValueError):
            return []
    return images if len(images) == len(job.frames) else []


def _sought(
    container: Any, stream: Any, wanted: list[WantedFrame], limits: Limits
) -> Iterator[Image.Image]:
    """The wanted frames in order, up to the first that is not found."""
    times = frozenset(frame.time for frame in wanted)
    frames: Iterator[VideoFrame] = iter(())
    reached: int | None = None  # the last frame that came out
    for each in wanted:
        time, key_time = each.time, each.key_time
        if time is None or key_time is None:
            return
        if reached is None or key_time > reached:
            container.seek(key_time, stream=stream)
            frames = _decoded(container, stream, limits, only=times)
        reached = None
        for frame in frames:
            if frame.pts is None or frame.pts > time or frame.is_corrupt:
                return
            if frame.pts == time:
                yield _upright_image(frame)
                reached = time
                break
        if reached is None:
            return


def _decoded(
    container: Any, stream: Any, limits: Limits, only: frozenset[int | None]
) -> Iterator[VideoFrame]:
    """Frames from here on. H.264 says which frames no other refers to: of these `only` some are
    decoded."""
    can_skip = stream.codec.canonical_name == "h264"
    context = stream.codec_context
    context.options = {"max_pixels": str(limits.max_video_pixels)}
    for packet in container.demux(stream):
        if can_skip:
            context.skip_frame = "DEFAULT" if packet.pts in only else "NONREF"
        for frame in packet.decode():
            _check_frame(frame, limits)
            yield frame


def _found_by_count(job: DecodeJob) -> list[Image.Image]:
    """Decode straight through; convert the wanted frames only; stop after the last.

    Streams whose tail does not decode give fewer frames than packets: then the wanted indices
    are spread over the frames there are.
    """
    wanted = [frame.index for frame in job.frames]
    images, num_decoded = _counted(job, set(wanted))
    if not num_decoded:
        raise undecodable("video")
    if wanted[-1] >= num_decoded:
        wanted = [(2 * i + 1) * num_decoded // (2 * len(wanted)) for i in range(len(wanted))]
        images, _ = _counted(job, set(wanted))
    return [images[index] for index in wanted]


def _counted(job: DecodeJob, wanted: set[int]) -> tuple[dict[int, Image.Image], int]:
    """The wanted frames by index, and how many were decoded until the last of them."""
    images: dict[int, Image.Image] = {}
    num_decoded = 0
    with _open(job.source) as container:
        for index, frame in enumerate(_decode(container, job.source.limits)):
            num_decoded = index + 1
            if index in wanted:
                images[index] = _upright_image(frame)
            if len(images) == len(wanted):
                break
    return images, num_decoded


def _decode(container: Any, limits: Limits) -> Iterator[VideoFrame]:
    """Frames under the pixel limit, which a stream may change midway."""
    stream = _video_stream(container)
    stream.codec_context.options = {"max_pixels": str(limits.max_video_pixels)}
    for frame in _until_broken(container.decode(stream)):
        _check_frame(frame, limits)
        yield frame


def _check_frame(frame: VideoFrame, limits: Limits) -> None:
    if frame.width * frame.height > limits.max_video_pixels:
        raise _too_large(limits)


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


def _open(source: MediaSource) -> Any:
    """Raises MediaRefused. No probing by name, no protocols, few streams, bounded pixels."""
    form = sniff_video(source.data[0])
    if form is None:
        raise MediaRefused(
            "media_unsupported_type", "The video must be MP4, MOV, WebM, MKV or AVI."
        )
    options = {
        "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
        "protocol_whitelist": "none",
        "max_streams": str(_MAX_STREAMS),
        "max_pixels": str(source.limits.max_video_pixels),
        "probesize": "5000000",
        "analyzeduration": "2000000",
        "enable_drefs": "0",
        "use_absolute_path": "0",
    }
    try:
        return av.open(io.BytesIO(source.data[0]), format=form, options=options, timeout=5)
    except (av.error.FFmpegError, ValueError, MemoryError, OSError) as error:
        raise undecodable("video") from error


def _video_stream(container: Any) -> Any:
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        raise undecodable("video")
    stream = films[0]
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
