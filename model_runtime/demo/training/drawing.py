"""Scenes to pixels, with the marks that file formats leave."""

import io
import math
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from model_runtime.demo.training.scenes import RGB, Scene, Shape

Point = tuple[float, float]


def outline_points(shape: Shape) -> list[Point]:
    """Corners of a polygon in units of the radius, before rotation; y points down."""
    if shape.kind == "square":
        half = 0.72 + 0.28 * shape.inner
        return [(-half, -half), (half, -half), (half, half), (-half, half)]
    if shape.kind == "triangle":
        half, base = 0.84 + 0.2 * shape.inner, 0.5 + 0.5 * shape.inner
        return [(0.0, -1.0), (half, base), (-half, base)]
    inner = 0.36 + 0.18 * shape.inner
    corners = [(1.0 if i % 2 == 0 else inner, -math.pi / 2 + i * math.pi / 5) for i in range(10)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in corners]


def _rotated(points: list[Point], degrees: float) -> list[Point]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in points]


def draw_shape(canvas: ImageDraw.ImageDraw, shape: Shape, width: int, height: int) -> None:
    """Draw on a canvas of `width` x `height` pixels (supersampled or not)."""
    cx, cy = shape.x * width, shape.y * height
    radius = shape.radius * min(width, height)
    fill = None if shape.style == "outline" else shape.rgb
    line = None if shape.style == "filled" else shape.border_rgb
    stroke = max(2 if shape.style == "outline" else 1, round(shape.stroke * radius))
    if shape.kind == "circle":
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        canvas.ellipse(box, fill=fill, outline=line, width=stroke if line else 0)
        return
    corners = _rotated(outline_points(shape), shape.rotation)
    points = [(cx + x * radius, cy + y * radius) for x, y in corners]
    canvas.polygon(points, fill=fill, outline=line, width=stroke if line else 0)


def _background(scene: Scene, width: int, height: int) -> Image.Image:
    if scene.background == scene.background_end:
        return Image.new("RGB", (width, height), scene.background)
    ramp = np.linspace(scene.background, scene.background_end, 32).astype(np.uint8)[:, None]
    return Image.fromarray(ramp).resize((width, height), Image.Resampling.BILINEAR)


def draw(scene: Scene, supersampling: int = 1) -> Image.Image:
    """RGB picture of the scene; `supersampling` above 1 smooths the edges."""
    width, height = scene.width * supersampling, scene.height * supersampling
    picture = _background(scene, width, height)
    canvas = ImageDraw.Draw(picture)
    for shape in scene.shapes:
        draw_shape(canvas, shape, width, height)
    return picture.reduce(supersampling) if supersampling > 1 else picture


def random_supersampling(rng: Random, scene: Scene) -> int:
    """Large pictures are not supersampled: cutting them into tiles smooths them anyway."""
    return 2 if max(scene.width, scene.height) <= 340 and rng.random() < 0.6 else 1


def through_jpeg(picture: Image.Image, quality: int, subsampling: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(buffer).convert("RGB")


def weathered(rng: Random, picture: Image.Image) -> Image.Image:
    """As it comes out of a file: JPEG of some quality, a little blur or noise, or untouched."""
    if rng.random() < 0.08:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.06:
        pixels = np.asarray(picture, np.float32)
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 4, pixels.shape)
        picture = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.45:
        return through_jpeg(picture, rng.randint(40, 95), rng.choice((0, 2, 2)))
    return picture


def random_picture(rng: Random, scene: Scene) -> Image.Image:
    return weathered(rng, draw(scene, random_supersampling(rng, scene)))


def mean_color(picture: Image.Image) -> RGB:
    """Average colour, for tests."""
    red, green, blue = np.asarray(picture).reshape(-1, 3).mean(0).round().astype(int).tolist()
    return red, green, blue
