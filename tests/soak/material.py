"""What is asked about: questions with known answers, pictures, clips, and media that is broken.

Content is a list of neutral parts; `shapes` writes it as each endpoint wants it.
"""

import random
from dataclasses import dataclass, field

from tests.demo import heldout
from tests.server.media.makers import clip, data_url, encoded, photo, png_header

_NUM_PICTURES = 48
_NUM_CLIPS = 6
_KNOWN_KINDS = ("color", "shape", "count", "left", "describe", "direction", "greeting", "who",
                "haiku", "count_to_50")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a user's message: `value` is the text, or the medium's URL."""

    kind: str  # text, image or video
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A question whose right answer can be told."""

    name: str
    parts: tuple[Part, ...]
    case: heldout.Case = field(repr=False)


@dataclass(frozen=True, slots=True)
class Material:
    known: tuple[Known, ...]
    pictures: tuple[str, ...]  # data URLs
    clips: tuple[str, ...]
    bad: tuple[Part, ...] = field(default_factory=tuple)


def gather(seed: int, per_kind: int) -> Material:
    chance = random.Random(seed)
    pictures = tuple(_picture(chance, number) for number in range(_NUM_PICTURES))
    clips = tuple(_clip(chance) for _ in range(_NUM_CLIPS))
    cases = [case for case in heldout.cases(per_kind, seed) if case.kind in _KNOWN_KINDS]
    known = tuple(
        Known(f"{case.kind}-{i}", _parts_of(case), case)
        for i, case in enumerate(cases)
        if len(case.messages) == 1
    )
    return Material(known, pictures, clips, tuple(_bad_media(pictures[0])))


def _picture(chance: random.Random, seed: int) -> str:
    image = photo(chance.randint(40, 900), chance.randint(40, 900), seed=seed)
    if chance.random() < 0.2:
        return data_url(encoded(image))
    return data_url(encoded(image, "JPEG", quality=chance.randint(50, 95)), "image/jpeg")


def _clip(chance: random.Random) -> str:
    size = chance.choice(((64, 48), (320, 240), (240, 320)))
    data = clip(chance.randint(8, 60), size=size, audio=chance.random() < 0.5)
    return data_url(data, "video/mp4")


def _parts_of(case: heldout.Case) -> tuple[Part, ...]:
    content = case.messages[0]["content"]
    if isinstance(content, str):
        return (Part("text", content),)
    return tuple(
        Part("text", part["text"])
        if part["type"] == "text"
        else Part(part["type"].removesuffix("_url"), part[part["type"]]["url"])
        for part in content
    )


def _bad_media(picture: str) -> list[Part]:
    """Each is refused with a code that begins with `media_`."""
    good = encoded(photo(200, 200))
    film = clip(24)
    return [
        Part("image", data_url(good[: len(good) // 2])),
        Part("image", data_url(b"no picture at all")),
        Part("image", data_url(png_header(60_000, 60_000))),
        Part("image", "http://169.254.169.254/latest"),
        Part("image", "http://127.0.0.1:9/x.png"),
        Part("image", "file:///etc/passwd"),
        Part("image", picture[:-7] + "####==="),
        Part("video", data_url(film[: len(film) // 2], "video/mp4")),
        Part("video", data_url(b"ffconcat version 1.0\nfile x\n", "video/mp4")),
    ]
