"""What a video's packets say, without decoding: which frames are shown, when, and from where they
can be decoded.

Headers lie, so the packets that are really there are counted. Frames are named by their
presentation time where all packets have one of their own; else only their order counts.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from server.media.jobs import Limits, MediaRefused, WantedFrame, undecodable

_VP8_SHOW_FRAME = 0x10  # RFC 6386, 9.1: a frame that is not shown is only a reference


@dataclass(frozen=True, slots=True)
class ClipIndex:
    """The shown frames in presentation order."""

    num_frames: int
    rate: float  # frames a second, as announced
    time_base: float  # seconds
    times: tuple[int, ...]  # presentation times, ascending; empty when packets lack their own
    key_times: tuple[int, ...]  # where decoding can begin, ascending

    @property
    def duration_s(self) -> float:
        """From the first frame to the end of the last."""
        frame_s = 1 / self.rate
        if not self.times:
            return self.num_frames * frame_s
        return (self.times[-1] - self.times[0]) * self.time_base + frame_s

    def frames_between(self, start_s: float | None, end_s: float | None) -> list[int]:
        """Indices of the frames shown from `start_s` on and before `end_s`."""
        first, last = start_s or 0.0, float("inf") if end_s is None else end_s
        return [i for i in range(self.num_frames) if first <= self._shown_at(i) < last]

    def wanted(self, index: int) -> WantedFrame:
        """All that decoding needs to know of one frame."""
        if not self.times:
            return WantedFrame(index)
        time = self.times[index]
        return WantedFrame(index, time, self.key_time_before(time))

    def key_time_before(self, time: int) -> int | None:
        """Where to begin, to see the frame of `time`."""
        position = bisect_right(self.key_times, time)
        return self.key_times[position - 1] if position else None

    def _shown_at(self, index: int) -> float:
        if not self.times:
            return index / self.rate
        return (self.times[index] - self.times[0]) * self.time_base


def read_index(packets: Any, stream: Any, limits: Limits) -> ClipIndex:
    """Raises MediaRefused beyond the limits, or when there is no frame."""
    num_frames, times, key_times = 0, set(), set()
    for packet in _from_first_key(packets):
        if packet.is_keyframe and packet.pts is not None:
            key_times.add(packet.pts)
        if not _is_shown(packet, stream):
            continue
        num_frames += 1
        if num_frames > limits.max_video_frames:
            raise MediaRefused("media_too_complex", "The video has too many frames.")
        if packet.pts is not None:
            times.add(packet.pts)
    if num_frames == 0:
        raise undecodable("video")
    has_times = len(times) == num_frames and stream.time_base
    index = ClipIndex(
        num_frames=num_frames,
        rate=_rate(stream),
        time_base=float(stream.time_base or 0),
        times=tuple(sorted(times)) if has_times else (),
        key_times=tuple(sorted(key_times)) if has_times else (),
    )
    if index.duration_s > limits.max_duration_s:
        raise MediaRefused("media_too_long", "The video is too long.")
    return index


def _from_first_key(packets: Any) -> Iterator[Any]:
    """What stands before the first key frame cannot be decoded, unless there is no key at all."""
    leading: list[Any] = []
    for packet in packets:
        if packet.is_keyframe:
            yield packet
            yield from packets
            return
        leading.append(packet)
    yield from leading


def _is_shown(packet: Any, stream: Any) -> bool:
    """Not so: the end of the stream, what an edit list cuts off, VP8's hidden references."""
    if not packet.size or packet.is_discard:
        return False
    return stream.codec.canonical_name != "vp8" or bool(bytes(packet)[0] & _VP8_SHOW_FRAME)


def _rate(stream: Any) -> float:
    """Frames a second; a lying header gets a usual one."""
    rate = float(stream.average_rate or 25)
    return rate if rate > 0 else 25.0
