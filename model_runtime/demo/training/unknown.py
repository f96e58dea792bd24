"""Pictures that the demo model cannot know: noise, textures, photo-like blobs, scribbles, text."""

import string
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from model_runtime.demo.training.drawing import weathered
from model_runtime.demo.training.scenes import RGB, random_background, random_size

UNKNOWN = "I cannot tell. I am a tiny demo model and I only know simple drawn shapes."


def random_unknown(rng: Random) -> Image.Image:
    size = random_size(rng)
    make = rng.choice((_noise, _clouds, _clouds, _blobs, _blobs, _stripes, _text, _scribble))
    return weathered(rng, make(rng, size))


def _any_color(rng: Random) -> RGB:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _pixels(rng: Random, width: int, height: int) -> Image.Image:
    values = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def _noise(rng: Random, size: tuple[int, int]) -> Image.Image:
    grain = rng.choice((1, 1, 2, 4, 8))
    picture = _pixels(rng, max(4, size[0] // grain), max(4, size[1] // grain))
    if rng.random() < 0.3:
        picture = picture.convert("L").convert("RGB")
    return picture.resize(size, Image.Resampling.NEAREST)


def _clouds(rng: Random, size: tuple[int, int]) -> Image.Image:
    """Smooth random colours in several scales, as in a photo out of focus."""
    picture = _pixels(rng, rng.randint(2, 5), rng.randint(2, 5))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    for cells in rng.choice(((), (8,), (8, 20), (8, 20, 60))):
        finer = _pixels(rng, cells, cells).resize(size, Image.Resampling.BICUBIC)
        picture = Image.blend(picture, finer, rng.uniform(0.1, 0.5))
    return picture


def _blobs(rng: Random, size: tuple[int, int]) -> Image.Image:
    """Many overlapping patches, as a photo has."""
    picture = _clouds(rng, size) if rng.random() < 0.5 else Image.new("RGB", size, _any_color(rng))
    canvas = ImageDraw.Draw(picture)
    for _ in range(rng.randint(12, 60)):
        points = [(rng.uniform(-0.1, 1.1) * size[0], rng.uniform(-0.1, 1.1) * size[1])]
        reach = rng.uniform(0.05, 0.4) * min(size)
        for _ in range(rng.randint(2, 5)):
            dx, dy = rng.uniform(-reach, reach), rng.uniform(-reach, reach)
            points.append((points[0][0] + dx, points[0][1] + dy))
        canvas.polygon(points, fill=_any_color(rng))
    return picture.filter(ImageFilter.GaussianBlur(rng.choice((0.0, 1.0, 2.0, 4.0))))


def _stripes(rng: Random, size: tuple[int, int]) -> Image.Image:
    """Stripes, or a chess board when both directions are used."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    period = max(4, min(size) // rng.randint(4, 14))
    pattern = (columns // period + rng.choice((0, 1)) * (rows // period)) % 2
    if rng.random() < 0.5:
        pattern = pattern.T if size[0] == size[1] else (rows // period) % 2
    colors = np.array([_any_color(rng), _any_color(rng)], np.uint8)
    return Image.fromarray(colors[pattern])


def _text(rng: Random, size: tuple[int, int]) -> Image.Image:
    background, _ = random_background(rng)
    picture = Image.new("RGB", size, background)
    canvas = ImageDraw.Draw(picture)
    ink = (0, 0, 0) if sum(background) > 380 else (255, 255, 255)
    letter_size = max(9, round(min(size) * rng.uniform(0.06, 0.16)))
    font = ImageFont.load_default(size=letter_size)
    y = 0.0
    while y < size[1]:
        letters = rng.choices(string.ascii_letters + "      .,0123456789", k=60)
        canvas.text((4, y), "".join(letters), font=font, fill=ink)
        y += letter_size * rng.uniform(1.1, 1.5)
    return picture


def _scribble(rng: Random, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("RGB", size, random_background(rng)[0])
    canvas = ImageDraw.Draw(picture)
    for _ in range(rng.randint(3, 12)):
        points = [(rng.uniform(0, size[0]), rng.uniform(0, size[1])) for _ in range(8)]
        canvas.line(points, fill=_any_color(rng), width=rng.randint(1, 5))
    return picture
