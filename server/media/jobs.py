"""The messages between the front end and a decoder process."""

import msgspec

_NOT_PIXELS = 1 << 20  # bytes: counts, names, times


class TileParams(msgspec.Struct, frozen=True):
    """How pictures are cut, from the checkpoint's image processor."""

    width: int
    height: int
    min_tiles: int
    max_tiles: int
    resample: int
    is_exact: bool = False  # every pixel as transformers' Pillow processor has it


class Limits(msgspec.Struct, frozen=True):
    """What a decoder refuses, checked from headers before pixels."""

    max_pixels: int
    max_side: int
    max_aspect_ratio: int
    max_jpeg_scans: int
    max_video_pixels: int
    max_video_frames: int
    max_duration_s: float
    max_sampled_frames: int
    allows_avif: bool = False


class MediaSource(msgspec.Struct, frozen=True):
    """Bytes, and what is wanted of them. An image, a video file, or a video as a list of images."""

    kind: str  # image | video | frames
    data: list[bytes]
    tiles: TileParams
    limits: Limits
    num_frames: int = 0
    fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None


class MeasureJob(msgspec.Struct, frozen=True, tag=True):
    """How many tiles will it be? Answered from headers, without pixels."""

    source: MediaSource


class WantedFrame(msgspec.Struct, frozen=True):
    """A frame of a video: its place among the shown ones; and when it is shown and from where it
    can be decoded, in the stream's own units, where packets tell."""

    index: int
    time: int | None = None
    key_time: int | None = None


class DecodeJob(msgspec.Struct, frozen=True, tag=True):
    """The tiles themselves. `frames`: a video's, as measured."""

    source: MediaSource
    frames: list[WantedFrame]


class Measured(msgspec.Struct, frozen=True, tag=True):
    """Tiles of each tile set; `num_pixels` of all pictures to decode, before they are cut."""

    num_tiles: list[int]
    num_pixels: int
    frames: list[WantedFrame] = []


class DecodedTiles(msgspec.Struct, frozen=True, tag=True):
    """uint8 RGB pixels: one entry of n tiles for an image, one of a single tile per frame."""

    num_tiles: list[int]
    pixels: list[bytes]


class DecodeRefusal(msgspec.Struct, frozen=True, tag=True):
    """The media is at fault; code and message are for the client."""

    code: str
    message: str


Job = MeasureJob | DecodeJob
JobResult = Measured | DecodedTiles | DecodeRefusal


def max_result_bytes(job: Job) -> int:
    """A decoder that says more than this says nothing that was asked."""
    if isinstance(job, MeasureJob):
        return _NOT_PIXELS
    source, tiles = job.source, job.source.tiles
    num_images = max(len(source.data), len(job.frames))
    num_tiles = tiles.max_tiles + 1 if source.kind == "image" else num_images
    return num_tiles * tiles.width * tiles.height * 3 + _NOT_PIXELS


class MediaRefused(Exception):
    """Raised inside a decoder; becomes a DecodeRefusal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def undecodable(what: str) -> MediaRefused:
    return MediaRefused("media_decode_failed", f"The {what} is damaged or cannot be decoded.")
