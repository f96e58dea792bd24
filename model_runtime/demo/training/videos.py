"""Clips of one moving shape: frames as scenes, and questions about them."""

from dataclasses import dataclass, replace
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from model_runtime.demo.training.drawing import draw, through_jpeg
from model_runtime.demo.training.questions import COLOR, SHAPE, Turn, phrase
from model_runtime.demo.training.scenes import Scene, random_background, random_shape
from model_runtime.demo.training.tiles import Labels, Pixels, cut_tiles, label_tiles

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SIZES = ((112, 112), (128, 96), (160, 120), (160, 90), (192, 108), (128, 128), (90, 160),
         (200, 150), (224, 224), (320, 240))  # fmt: skip
WHICH_WAY = ("Which way does the shape move?", "Which direction does the shape move?",
             "Where does the shape move?", "In which direction does the shape move?",
             "Which way does it move?", "Which direction does it move?",
             "Which way is the shape moving?", 
             "What direction does the shape move in?")  # fmt: skip
HAPPENS = ("What happens in the video?", "Describe the video.", "What is happening?",
           "What happens?", "What happens in this video?", "What does the video show?",
           "Describe this video.", "What do you see in the video?")  # fmt: skip
VIDEO_COLOR = (COLOR[0], "What color is the shape in the video?", *COLOR[1:4])
VIDEO_SHAPE = ("What shape is in the video?", "What shape moves?", *SHAPE[1:3])


@dataclass(frozen=True, slots=True)
class Clip:
    direction: str
    frames: tuple[Scene, ...]

    @property
    def way(self) -> str:
        return f"to the {self.direction}" if self.direction in ("left", "right") else self.direction


def random_clip(rng: Random, num_frames: int) -> Clip:
    """Frames at the midpoints of equal segments of a straight, steady motion."""
    width, height = rng.choice(SIZES)
    background, _ = random_background(rng)
    direction = rng.choice(tuple(DIRECTIONS))
    step_x, step_y = DIRECTIONS[direction]
    radius = rng.uniform(0.07, 0.26)
    start, end = _travel(rng)
    across, drift = rng.uniform(0.2, 0.8), rng.uniform(-0.05, 0.05)
    shape = random_shape(rng, background, (0.5, 0.5, radius))
    frames = []
    for index in range(num_frames):
        time = (index + 0.5) / num_frames
        along, side = start + (end - start) * time, across + drift * time
        if step_x + step_y < 0:
            along = 1 - along
        x, y = (along, side) if step_x else (side, along)
        frames.append(Scene(width, height, background, background, (replace(shape, x=x, y=y),)))
    return Clip(direction, tuple(frames))


def _travel(rng: Random) -> tuple[float, float]:
    """Start and end as fractions of the side: at least a third of it apart."""
    while True:
        start, end = rng.uniform(0.05, 0.6), rng.uniform(0.4, 0.95)
        if end - start >= 0.33:
            return start, end


def draw_clip(rng: Random, clip: Clip) -> Pixels:
    """`[num_frames, 112, 112, 3]`, softened as video codecs do."""
    supersampling, blur = rng.choice((1, 1, 2)), rng.choice((0.0, 0.0, 0.5, 0.9))
    quality = rng.choice((0, rng.randint(35, 90)))
    tiles = []
    for frame in clip.frames:
        picture = draw(frame, supersampling)
        if blur:
            picture = picture.filter(ImageFilter.GaussianBlur(blur))
        tiles.append(cut_tiles(_compressed(picture, quality), 1))
    return np.concatenate(tiles)


def _compressed(picture: Image.Image, quality: int) -> Image.Image:
    return through_jpeg(picture, quality, 2) if quality else picture


def label_clip(clip: Clip) -> Labels:
    return np.concatenate([label_tiles(frame, 1) for frame in clip.frames])


def clip_turns(rng: Random, clip: Clip) -> list[Turn]:
    shape = clip.frames[0].shapes[0]
    name = shape.name[0].upper() + shape.name[1:]
    turns = [
        (phrase(rng, WHICH_WAY), f"The shape moves {clip.way}.", "direction"),
        (phrase(rng, HAPPENS), f"{name} moves {clip.way}.", "happens"),
        (phrase(rng, VIDEO_COLOR), f"The shape is {shape.color}.", "video_color"),
        (phrase(rng, VIDEO_SHAPE), f"The shape is a {shape.kind}.", "video_shape"),
    ]
    rng.shuffle(turns)
    return turns
