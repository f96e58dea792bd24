"""The types at the prompt hop: a conversation in, token ids and media spans out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from model_runtime.protocol import MediaSpan, TileSet
from server.media.types import LoadedMedia

# How a prompt ends: where an answer begins, after the last message, or in the midst of it.
Ending = Literal["generation_prompt", "closed", "open"]


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class MediaPart:
    media: LoadedMedia


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. Parts keep the client's order; media and text may interleave."""

    role: str
    parts: Sequence[TextPart | MediaPart]


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt ready for the engine. `tiles` holds each distinct content hash of `spans` once."""

    token_ids: list[int]
    spans: list[MediaSpan]
    tiles: list[TileSet]
    num_image_tokens: int
    num_video_tokens: int
