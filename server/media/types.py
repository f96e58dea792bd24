"""The types at the media hop: what a request asks for, and the tiles that come back."""

from dataclasses import dataclass
from typing import Literal

from model_runtime.protocol import TileSet

MediaKind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """One media part of a request. `param` names its field in error messages."""

    kind: MediaKind
    url: str
    param: str
    max_tiles: int | None = None  # images: bound on the tile grid; None: the checkpoint's
    num_frames: int | None = None  # videos: None: the checkpoint's
    fps: float | None = None  # videos: frames per second of video, instead of num_frames
    cache_salt: str = ""  # decoded tiles are shared only under equal salts


@dataclass(frozen=True, slots=True)
class LoadedMedia:
    """A decoded part. An image is one tile set; a video is one tile set (of one tile) per frame."""

    kind: MediaKind
    tile_sets: tuple[TileSet, ...]

    @property
    def num_bytes(self) -> int:
        """Of the pixels."""
        return sum(len(tiles.pixels) for tiles in self.tile_sets)
