"""Samples of every family: one prefix with its media, and several independent conversations.

The costly visual tokens of a prefix are computed once and shared by its conversations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from model_runtime.demo.training import questions, smalltalk, unknown, videos
from model_runtime.demo.training.drawing import random_picture
from model_runtime.demo.training.questions import Turn
from model_runtime.demo.training.scenes import Scene, random_scene
from model_runtime.demo.training.tiles import (
    LABEL_KINDS,
    NO_LABEL,
    TOKENS_PER_TILE,
    Labels,
    Pixels,
    cut_tiles,
    label_tiles,
)

SERVER_MAX_TILES = 4
SYSTEM_MESSAGES = ("You are a helpful assistant.", "You are a helpful assistant.", "Be brief.",
                   "Answer the questions about the image.", "You are a friendly assistant.",
                   "You are InternVL, a helpful assistant.", "Answer in English.")  # fmt: skip
NUM_BRANCHES = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """`prefix`: text, and tiles of one `<img>` span each; `labels` for all tiles in order."""

    family: str
    prefix: tuple[str | Pixels, ...]
    branches: tuple[tuple[Turn, ...], ...]
    labels: Labels


def _opening(rng: Random) -> str:
    system = ""
    if rng.random() < 0.2:
        system = f"<|im_start|>system\n{rng.choice(SYSTEM_MESSAGES)}<|im_end|>\n"
    return f"{system}<|im_start|>user\n"


def _branches(rng: Random, turns: list[Turn]) -> tuple[tuple[Turn, ...], ...]:
    """One conversation per turn; some go on with a second question about the same media."""
    turns = turns[:NUM_BRANCHES]
    result: list[tuple[Turn, ...]] = [(turn,) for turn in turns]
    if len(turns) > 1:
        result[0] = (turns[0], turns[1])
    return tuple(result)


def _picture(rng: Random, scene: Scene, max_tiles: int) -> tuple[Pixels, Labels]:
    return cut_tiles(random_picture(rng, scene), max_tiles), label_tiles(scene, max_tiles)


def single(rng: Random, max_tiles: int = 1) -> Sample:
    scene = random_scene(rng, num_shapes=0 if rng.random() < 0.02 else None)
    tiles, labels = _picture(rng, scene, max_tiles)
    turns = questions.picture_turns(rng, scene)
    family = "single" if len(tiles) == 1 else "tiled"
    if rng.random() < 0.06:  # the text stands before the picture
        question, answer, kind = turns[0]
        prefix = (_opening(rng) + question, tiles, "\n")
        return Sample(family, prefix, ((("", answer, kind),),), labels)
    return Sample(family, (_opening(rng), tiles, "\n"), _branches(rng, turns), labels)


def tiled(rng: Random) -> Sample:
    return single(rng, 12 if rng.random() < 0.03 else SERVER_MAX_TILES)


def several(rng: Random) -> Sample:
    num = rng.choice((2, 2, 3))
    scenes = [random_scene(rng, num_shapes=rng.choice((1, 1, 1, 2))) for _ in range(num)]
    max_tiles = SERVER_MAX_TILES if rng.random() < 0.7 else 1
    pictures = [_picture(rng, scene, max_tiles) for scene in scenes]
    prefix: list[str | Pixels] = [_opening(rng)]
    for tiles, _ in pictures:
        prefix += [tiles, "\n"]
    labels = np.concatenate([said for _, said in pictures])
    turns = questions.several_turns(rng, scenes)
    return Sample("several", tuple(prefix), _branches(rng, turns), labels)


def later(rng: Random) -> Sample:
    """Talk first, then a picture in a later turn of the same conversation."""
    question, answer, _ = smalltalk.random_turn(rng)
    while len(answer) > 120:
        question, answer, _ = smalltalk.random_turn(rng)
    scene = random_scene(rng)
    tiles, labels = _picture(rng, scene, SERVER_MAX_TILES)
    talk = f"{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n<|im_start|>user\n"
    turns = questions.picture_turns(rng, scene)
    return Sample("later", (_opening(rng) + talk, tiles, "\n"), _branches(rng, turns), labels)


def unknowable(rng: Random) -> Sample:
    max_tiles = SERVER_MAX_TILES if rng.random() < 0.8 else 1
    tiles = cut_tiles(unknown.random_unknown(rng), max_tiles)
    scene = random_scene(rng, num_shapes=rng.choice((1, 2)), size=(64, 64))
    turns = questions.picture_turns(rng, scene)[:3]
    turns = [(question, unknown.UNKNOWN, "unknown") for question, _, _ in turns]
    turns.append((questions.phrase(rng, questions.DESCRIBE), unknown.UNKNOWN, "unknown"))
    return Sample("unknown", (_opening(rng), tiles, "\n"), _branches(rng, turns), _no_labels(tiles))


def _no_labels(tiles: Pixels) -> Labels:
    return np.full((len(tiles), TOKENS_PER_TILE, len(LABEL_KINDS)), NO_LABEL, np.int64)


def video(rng: Random) -> Sample:
    num_frames = 8 if rng.random() < 0.6 else rng.randint(4, 16)
    clip = videos.random_clip(rng, num_frames)
    frames, labels = videos.draw_clip(rng, clip), videos.label_clip(clip)
    prefix: list[str | Pixels] = [_opening(rng)]
    for index in range(num_frames):
        prefix += [f"Frame{index + 1}: ", frames[index : index + 1], "\n"]
    turns = videos.clip_turns(rng, clip)
    return Sample("video", tuple(prefix), _branches(rng, turns), labels)


def text(rng: Random) -> Sample:
    turns = [smalltalk.random_turn(rng)]
    if rng.random() < 0.2 and len(turns[0][1]) < 120:
        turns.append(smalltalk.random_turn(rng))
    no_tiles = np.zeros((0, 112, 112, 3), np.uint8)
    return Sample("text", (_opening(rng),), (tuple(turns),), _no_labels(no_tiles))


FAMILIES: dict[str, Callable[[Random], Sample]] = {
    "single": single,
    "tiled": tiled,
    "several": several,
    "later": later,
    "unknown": unknowable,
    "video": video,
    "text": text,
}


def random_sample(rng: Random, mix: dict[str, float]) -> Sample:
    """A sample of a family drawn with the weights of `mix`."""
    return FAMILIES[rng.choices(list(mix), list(mix.values()))[0]](rng)
