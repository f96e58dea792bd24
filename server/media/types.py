"""The types at the media hop: what is asked for, what its header says, the tiles it becomes."""

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
    start_s: float | None = None  # videos: only what is shown from here
    end_s: float | None = None  # videos: and before this
    cache_salt: str = ""  # what is kept of it is shared only under equal salts


@dataclass(frozen=True, slots=True)
class PlannedTiles:
    """What is known of a `TileSet` before its pixels are: enough to write a prompt."""

    content_hash: bytes
    num_tiles: int


@dataclass(frozen=True, slots=True)
class PlannedMedia:
    """A part as its header announces it. An image is one tile set; a video one (of one tile) per
    frame."""

    kind: MediaKind
    tile_sets: tuple[PlannedTiles, ...]

    @property
    def num_tiles(self) -> int:
        return sum(tiles.num_tiles for tiles in self.tile_sets)


@dataclass(frozen=True, slots=True)
class LoadedMedia:
    """A decoded part: the planned tile sets with their pixels."""

    kind: MediaKind
    tile_sets: tuple[TileSet, ...]

    @property
    def num_bytes(self) -> int:
        """Of the pixels."""
        return sum(len(tiles.pixels) for tiles in self.tile_sets)
