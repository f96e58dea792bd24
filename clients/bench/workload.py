"""The requests to send: planned and made from a seed, before any clock runs."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clients.bench.media import image_url, video_url
from clients.bench.options import Shape

_WORDS = (
    "house river light stone summer window garden paper music winter bridge table "
    "mountain letter silver morning forest street yellow market ocean candle engine story"
).split()
_KINDS = ("text", "image", "multi-image", "video")
_QUESTION = "Describe what you see. "

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A request: its text grows from `index`, its media from `media_index`, which repeats share."""

    index: int
    kind: str
    media_index: int


def plan(shape: Shape, first: int, count: int) -> list[Plan]:
    """Requests `first` to `first + count`; they repeat none but each other."""
    plans: list[Plan] = []
    originals: list[Plan] = []
    for index in range(first, first + count):
        chance = _chance(shape, "plan", index)
        if originals and chance.random() < shape.repeat_share:
            seen = chance.choice(originals)
            plans.append(Plan(index, seen.kind, seen.media_index))
            continue
        kind = chance.choice(_KINDS) if shape.workload == "mixed" else shape.workload
        originals.append(Plan(index, kind, index))
        plans.append(originals[-1])
    return plans


def content(shape: Shape, request: Plan, num_words: int) -> str | list[Part]:
    """A message's content; text is at its end, so that equal media are an equal beginning."""
    if request.kind == "text":
        return text(shape, request.media_index, num_words)
    media = list(_media(shape, request))
    question = _QUESTION + text(shape, request.index, num_words)
    return [*media, {"type": "text", "text": question}]


def text(shape: Shape, index: int, num_words: int) -> str:
    chance = _chance(shape, "text", index)
    return " ".join(chance.choices(_WORDS, k=max(num_words, 1)))


def vocabulary(times: int) -> str:
    """Every word so many times: as many tokens a word as texts have on average."""
    return " ".join(_WORDS * times)


def body(model: str, message: str | list[Part], output_len: int, more: dict[str, Any]) -> bytes:
    """A streaming chat request that asks for its usage."""
    fields = {
        "model": model,
        "messages": [{"role": "user", "content": message}],
        "max_tokens": output_len,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(fields | more).encode()


def _media(shape: Shape, request: Plan) -> Iterator[Part]:
    chance = _chance(shape, "media", request.media_index)
    if request.kind == "video":
        url = video_url(chance, shape.video_size, shape.video_frames)
        yield {"type": "video_url", "video_url": {"url": url}}
        return
    for _ in range(shape.images_per_prompt if request.kind == "multi-image" else 1):
        yield {"type": "image_url", "image_url": {"url": image_url(chance, shape.image_size)}}


def _chance(shape: Shape, purpose: str, index: int) -> random.Random:
    """Independent for each request, so that any of them can be made alone."""
    return random.Random(f"{shape.seed}/{purpose}/{index}")
