"""Test media for the demo model, drawn by another hand than its training data.

Shapes are signed-distance functions sampled on a fine grid with numpy, not Pillow polygons;
fills, outlines of another shade and thick outlines; light and dark backgrounds; JPEG and PNG;
MP4 by H.264. Knows nothing of model_runtime.demo.training.
"""

import io
import math
import random
from dataclasses import dataclass

import av
import numpy as np
from PIL import Image

SHAPES = ("circle", "square", "triangle", "star")
COLORS = {
    "red": (222, 32, 38),
    "green": (28, 146, 56),
    "blue": (32, 70, 212),
    "yellow": (250, 222, 28),
    "orange": (250, 140, 12),
    "purple": (130, 32, 158),
    "black": (12, 12, 12),
    "white": (252, 252, 252),
}
LIGHT = ((255, 255, 255), (236, 236, 230), (220, 230, 240))
DARK = ((20, 20, 24), (0, 0, 0), (40, 44, 52))
ON_LIGHT = ("red", "green", "blue", "yellow", "orange", "purple", "black")
ON_DARK = ("red", "green", "blue", "yellow", "orange", "purple", "white")
SUPERSAMPLING = 2


@dataclass(frozen=True)
class Shape:
    """`x`, `y` in shares of width and height, `size` (radius) in shares of the short side."""

    name: str
    color: str
    x: float
    y: float
    size: float
    style: str = "fill"  # fill | edge | ring
    turn: float = 0.0

    @property
    def words(self) -> str:
        return f"{self.color} {self.name}"


@dataclass(frozen=True)
class Picture:
    width: int
    height: int
    background: tuple[int, int, int]
    shapes: tuple[Shape, ...]


def random_picture(chance: random.Random, num_shapes: int) -> Picture:
    """Shapes side by side in random order; which is left and right is beyond doubt."""
    width, height = _random_size(chance)
    is_light = chance.random() < 0.6
    background = chance.choice(LIGHT if is_light else DARK)
    colors = chance.sample(ON_LIGHT if is_light else ON_DARK, num_shapes)
    kinds = [chance.choice(SHAPES) for _ in colors]
    cell = width / num_shapes
    shapes = []
    for index, (color, kind) in enumerate(zip(colors, kinds, strict=True)):
        largest = min(cell, height) / 2 * 0.85
        radius = largest * chance.uniform(0.6, 1.0)
        x = cell * (index + 0.5) + chance.uniform(-1, 1) * max(0, cell / 2 - radius) * 0.5
        y = height / 2 + chance.uniform(-1, 1) * max(0.0, height / 2 - radius) * 0.8
        style = chance.choice(("fill", "fill", "fill", "edge", "ring"))
        shapes.append(
            Shape(
                kind,
                color,
                x / width,
                y / height,
                radius / min(width, height),
                style,
                chance.uniform(-8, 8),
            )
        )
    return Picture(width, height, background, tuple(shapes))


def _random_size(chance: random.Random) -> tuple[int, int]:
    width = chance.randint(64, 640)
    return width, max(64, min(640, round(width * chance.uniform(0.6, 1.6))))


def draw(picture: Picture) -> Image.Image:
    height, width = picture.height * SUPERSAMPLING, picture.width * SUPERSAMPLING
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = picture.background
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    for shape in picture.shapes:
        radius = shape.size * min(width, height)
        distance = _distance(shape, xs - shape.x * width, ys - shape.y * height, radius)
        _paint(canvas, shape, distance, radius)
    small = canvas.reshape(picture.height, SUPERSAMPLING, picture.width, SUPERSAMPLING, 3)
    return Image.fromarray(small.mean(axis=(1, 3)).round().astype(np.uint8))


def _paint(canvas: np.ndarray, shape: Shape, distance: np.ndarray, radius: float) -> None:
    color = np.array(COLORS[shape.color], np.float32)
    inside = distance < 0
    if shape.style == "ring":
        canvas[inside & (distance > -0.3 * radius)] = color
        return
    canvas[inside] = color
    if shape.style == "edge":
        canvas[inside & (distance > -0.07 * radius)] = color * 0.55


def _distance(shape: Shape, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Negative inside. About the distance to the border, in fine pixels."""
    turn = math.radians(shape.turn)
    x, y = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    if shape.name == "circle":
        return np.hypot(x, y) - radius
    if shape.name == "square":
        side = radius * 0.85
        return np.maximum(abs(x), abs(y)) - side
    if shape.name == "triangle":
        return np.maximum(y - radius * 0.6, abs(x) * 0.866 - y * 0.5 - radius * 0.6)
    return _star_distance(x, y, radius)


def _star_distance(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Five points: the edge lines of a pentagram in one folded sector."""
    angle = np.mod(np.arctan2(x, -y) + math.pi / 5, 2 * math.pi / 5) - math.pi / 5
    length = np.hypot(x, y)
    px, py = np.abs(length * np.sin(angle)), length * np.cos(angle)
    inner = 0.42 * radius
    ix, iy = inner * math.sin(math.pi / 5), inner * math.cos(math.pi / 5)
    normal_x, normal_y = radius - iy, ix
    norm = math.hypot(normal_x, normal_y)
    return (normal_x * px + normal_y * (py - radius)) / norm


def encode(chance: random.Random, image: Image.Image) -> tuple[str, bytes]:
    """Media type and bytes: PNG or JPEG of some quality."""
    buffer = io.BytesIO()
    if chance.random() < 0.5:
        image.save(buffer, "PNG")
        return "image/png", buffer.getvalue()
    image.save(buffer, "JPEG", quality=chance.randint(60, 95))
    return "image/jpeg", buffer.getvalue()


DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def random_video(chance: random.Random, direction: str) -> tuple[Shape, bytes]:
    """One shape in steady motion over 1 to 4 s, as MP4."""
    width, height = chance.choice(((320, 240), (240, 320), (256, 256), (480, 270)))
    is_light = chance.random() < 0.6
    background = chance.choice(LIGHT if is_light else DARK)
    color = chance.choice(ON_LIGHT if is_light else ON_DARK)
    size, kind = chance.uniform(0.12, 0.2), chance.choice(SHAPES)
    rate, seconds = chance.choice((10, 15, 24, 30)), chance.uniform(1, 4)
    dx, dy = DIRECTIONS[direction]
    across = chance.uniform(0.35, 0.65)
    reach = chance.uniform(0.5, 0.6)
    num_frames = round(rate * seconds)
    frames = []
    for index in range(num_frames):
        along = (index / (num_frames - 1) - 0.5) * reach
        x, y = (0.5 + dx * along, across) if dx else (across, 0.5 + dy * along)
        shape = Shape(kind, color, x, y, size)
        frames.append(draw(Picture(width, height, background, (shape,))))
    return shape, _encode_mp4(frames, rate)


def _encode_mp4(frames: list[Image.Image], rate: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=rate)
        stream.width, stream.height = frames[0].width // 2 * 2, frames[0].height // 2 * 2
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()


def unknown_picture(chance: random.Random) -> Image.Image:
    """Something that is no drawn shape: noise, a landscape-like gradient, a texture."""
    noise = np.random.default_rng(chance.randrange(1 << 30))
    width, height = _random_size(chance)
    kind = chance.choice(("noise", "landscape", "texture"))
    if kind == "noise":
        return Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
    coarse = noise.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(soft, np.float32)
    if kind == "landscape":
        pixels = pixels * 0.5 + np.linspace(230, 30, height)[:, None, None] * 0.5
    return Image.fromarray((pixels + noise.normal(0, 14, pixels.shape)).clip(0, 255).astype("u1"))
