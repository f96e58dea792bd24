"""The messages between the front end and a decoder process."""

import msgspec


class TileParams(msgspec.Struct, frozen=True):
    """How pictures are cut, from the checkpoint's image processor."""

    width: int
    height: int
    min_tiles: int
    max_tiles: int
    resample: int


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


class DecodeJob(msgspec.Struct, frozen=True):
    """Bytes to decode. An image, a video file, or a video as a list of images."""

    kind: str  # image | video | frames
    data: list[bytes]
    tiles: TileParams
    limits: Limits
    num_frames: int = 0
    fps: float | None = None


class DecodedTiles(msgspec.Struct, frozen=True, tag=True):
    """uint8 RGB pixels: one entry of n tiles for an image, one of a single tile per frame."""

    num_tiles: list[int]
    pixels: list[bytes]


class DecodeRefusal(msgspec.Struct, frozen=True, tag=True):
    """The media is at fault; code and message are for the client."""

    code: str
    message: str


DecodeResult = DecodedTiles | DecodeRefusal


class MediaRefused(Exception):
    """Raised inside a decoder; becomes a DecodeRefusal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def undecodable(what: str) -> MediaRefused:
    return MediaRefused("media_decode_failed", f"The {what} is damaged or cannot be decoded.")
