"""The types at the prompt hop: a conversation in, token ids and media spans out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from model_runtime.protocol import MediaSpan, TileSet
from server.media.types import PlannedMedia

# How a prompt ends: where an answer begins, after the last message, or in the midst of it.
Ending = Literal["generation_prompt", "closed", "open"]


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class MediaPart:
    media: PlannedMedia


@dataclass(frozen=True, slots=True)
class CalledFunction:
    """A call that the model made in an earlier turn. `arguments`: JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. Parts keep the client's order; media and text may interleave.

    The results of calls are turns of the role `tool`, in the order of the calls.
    """

    role: str
    parts: Sequence[TextPart | MediaPart]
    calls: Sequence[CalledFunction] = ()


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt ready for the engine, once `tiles` holds the pixels of its spans.

    Each distinct content hash of `spans` is in `tiles` once; the prompt itself is built without
    them, from what the media's headers say.
    """

    token_ids: list[int]
    spans: list[MediaSpan] = field(default_factory=list)
    tiles: list[TileSet] = field(default_factory=list)
    num_media: int = 0
    num_image_tokens: int = 0
    num_video_tokens: int = 0
    num_image_tiles: int = 0
    num_video_frames: int = 0
