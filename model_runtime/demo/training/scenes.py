"""Scene graphs: which shapes lie where, in which colours and line styles. No pixels here.

Everything is chosen by a `random.Random`, so a seed fixes a scene.
"""

import math
from dataclasses import dataclass
from random import Random

RGB = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star")
PALETTE: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (244, 67, 54), (220, 20, 60), (229, 57, 53), (211, 47, 47),
            (198, 40, 40), (178, 34, 34), (231, 76, 60), (200, 0, 0), (239, 68, 68)),
    "green": ((0, 128, 0), (0, 255, 0), (76, 175, 80), (34, 139, 34), (67, 160, 71),
              (46, 125, 50), (50, 205, 50), (46, 204, 113), (0, 200, 0), (34, 197, 94)),
    "blue": ((0, 0, 255), (33, 150, 243), (30, 136, 229), (25, 118, 210), (30, 144, 255),
             (65, 105, 225), (21, 101, 192), (52, 152, 219), (59, 130, 246), (0, 0, 170)),
    "yellow": ((255, 255, 0), (255, 235, 59), (253, 216, 53), (255, 215, 0), (241, 196, 15),
               (251, 200, 45), (250, 204, 21), (255, 238, 88)),
    "orange": ((255, 165, 0), (255, 152, 0), (255, 140, 0), (245, 124, 0), (251, 140, 0),
               (230, 126, 34), (255, 128, 0), (249, 115, 22), (239, 108, 0)),
    "purple": ((128, 0, 128), (156, 39, 176), (142, 36, 170), (123, 31, 162), (155, 89, 182),
               (148, 0, 211), (138, 43, 226), (106, 27, 154), (160, 32, 240), (103, 58, 183)),
    "black": ((0, 0, 0), (33, 33, 33), (20, 20, 20), (10, 10, 10)),
    "white": ((255, 255, 255), (250, 250, 250), (245, 245, 245), (240, 240, 240)),
}  # fmt: skip
COLORS = tuple(PALETTE)
STYLES = ("filled", "bordered", "outline")
COMMON_SIZES = (
    (64, 64), (96, 96), (128, 128), (200, 200), (224, 224), (256, 256), (300, 300), (320, 240),
    (300, 200), (400, 300), (240, 320), (200, 400), (480, 270), (320, 180), (448, 448), (512, 512),
    (640, 480), (640, 360),
)  # fmt: skip
CLEAR_GAP = 0.14
"""Fraction of a side that leaves no doubt about left and right."""
STACKED_SHARE = 0.12
Place = tuple[float, float, float]
"""Centre as fractions of width and height, radius as a fraction of the short side."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`x`, `y`: centre as fractions of width and height; `radius`: fraction of the short side."""

    kind: str
    color: str
    rgb: RGB
    x: float
    y: float
    radius: float
    style: str
    border_rgb: RGB
    stroke: float
    """Width of the line as a fraction of the radius."""
    rotation: float
    """Degrees."""
    inner: float
    """The free proportion: inner radius of a star, slenderness of a triangle, side of a square."""

    @property
    def name(self) -> str:
        article = "an" if self.color[0] in "aeiou" else "a"
        return f"{article} {self.color} {self.kind}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture of `width` x `height` pixels; `shapes` left to right, or top to bottom."""

    width: int
    height: int
    background: RGB
    background_end: RGB
    """The other end of a faint gradient; the same colour on a plain background."""
    shapes: tuple[Shape, ...]


def jitter(rng: Random, rgb: RGB, amount: int) -> RGB:
    red, green, blue = (max(0, min(255, c + rng.randint(-amount, amount))) for c in rgb)
    return red, green, blue


def luminance(rgb: RGB) -> float:
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def random_size(rng: Random) -> tuple[int, int]:
    """64 to 640 pixels a side, small ones more often: they cost less to draw."""
    if rng.random() < 0.35:
        return rng.choice(COMMON_SIZES)
    longest = rng.randint(64, 340) if rng.random() < 0.85 else rng.randint(340, 640)
    shortest = max(64, round(longest * rng.uniform(0.45, 1.0)))
    sides = (longest, shortest) if rng.random() < 0.62 else (shortest, longest)
    return sides


def random_background(rng: Random) -> tuple[RGB, RGB]:
    """A plain colour, mostly light or dark; sometimes a faint gradient."""
    draw = rng.random()
    if draw < 0.34:
        rgb = rng.choice([(255, 255, 255), (255, 255, 255), (250, 250, 250), (245, 245, 245)])
    elif draw < 0.55:
        rgb = jitter(rng, (225, 225, 225), 28)
    elif draw < 0.85:
        level = rng.choice([0, 0, 16, 24, 32, 40, 48])
        rgb = jitter(rng, (level, level, level), 14 if level else 0)
    elif draw < 0.93:
        level = rng.randint(60, 190)
        rgb = jitter(rng, (level, level, level), 12)
    else:
        rgb = jitter(rng, rng.choice(PALETTE[rng.choice(COLORS)]), 8)
    end = jitter(rng, rgb, 22) if rng.random() < 0.08 else rgb
    return rgb, end


def visible_color(rng: Random, background: RGB) -> tuple[str, RGB]:
    """A colour with its name, clearly apart from the background."""
    while True:
        color = rng.choice(COLORS)
        rgb = jitter(rng, rng.choice(PALETTE[color]), 6)
        gap = abs(luminance(rgb) - luminance(background))
        needed = 75 if color in ("black", "white") else 0
        if math.dist(rgb, background) > 105 and gap >= needed:
            return color, rgb


def border_color(rng: Random, rgb: RGB, background: RGB) -> RGB:
    """Another shade of the fill, or now and then a plain dark or light line."""
    if rng.random() < 0.25:
        return (20, 20, 20) if luminance(background) > 110 else (240, 240, 240)
    factor, white = rng.choice([(rng.uniform(0.4, 0.75), 0), (rng.uniform(0.45, 0.7), 255)])
    red, green, blue = (round(c * factor + white * (1 - factor)) for c in rgb)
    return red, green, blue


def random_shape(rng: Random, background: RGB, place: Place, kind: str | None = None) -> Shape:
    color, rgb = visible_color(rng, background)
    style = rng.choices(STYLES, (0.58, 0.2, 0.22))[0]
    bordered = style == "bordered"
    return Shape(
        kind=kind or rng.choice(SHAPES),
        color=color,
        rgb=rgb,
        x=place[0],
        y=place[1],
        radius=place[2],
        style=style,
        border_rgb=border_color(rng, rgb, background) if bordered else rgb,
        stroke=rng.uniform(0.05, 0.16) if bordered else rng.uniform(0.14, 0.4),
        rotation=rng.uniform(-18, 18) if rng.random() < 0.5 else 0.0,
        inner=rng.random(),
    )


def random_radius(rng: Random, num_shapes: int) -> float:
    """Half of 12 % to 80 % of the short side; smaller when several must fit."""
    largest = {1: 0.41, 2: 0.26, 3: 0.18}[num_shapes]
    if rng.random() < 0.6:
        return rng.uniform(0.08, largest)
    return math.exp(rng.uniform(math.log(0.06), math.log(largest)))


def random_places(rng: Random, width: int, height: int, num: int) -> list[Place]:
    """`num` discs that do not touch: left to right with clear gaps, or one above the other."""
    stacked_x = rng.uniform(0.2, 0.8) if num > 1 and rng.random() < STACKED_SHARE else None
    while True:
        places: list[Place] = []
        for _ in range(30 if num > 1 else 1):
            place = _random_place(rng, width, height, num, stacked_x)
            if all(_are_apart(place, other, width, height, stacked_x) for other in places):
                places.append(place)
            if len(places) == num:
                return sorted(places, key=lambda p: p[0] if stacked_x is None else p[1])


def _random_place(rng: Random, width: int, height: int, num: int, stacked_x: float | None) -> Place:
    radius = random_radius(rng, num)
    margin_x, margin_y = (radius * min(width, height) / side for side in (width, height))
    x, y = rng.uniform(margin_x, 1 - margin_x), rng.uniform(margin_y, 1 - margin_y)
    if stacked_x is not None:
        x = min(max(stacked_x + rng.uniform(-0.02, 0.02), margin_x), 1 - margin_x)
    elif rng.random() < 0.25:
        y = 0.5
    if num == 1 and rng.random() < 0.4:
        x, y = 0.5 + rng.uniform(-0.04, 0.04), 0.5 + rng.uniform(-0.04, 0.04)
    return x, y, radius


def _are_apart(a: Place, b: Place, width: int, height: int, stacked_x: float | None) -> bool:
    distance = math.hypot((a[0] - b[0]) * width, (a[1] - b[1]) * height)
    clear = abs(a[0] - b[0]) >= CLEAR_GAP if stacked_x is None else abs(a[0] - b[0]) < 0.05
    return clear and distance > (a[2] + b[2]) * min(width, height) * 1.05


def random_scene(
    rng: Random, num_shapes: int | None = None, size: tuple[int, int] | None = None
) -> Scene:
    """One to three shapes on a quiet background."""
    width, height = size or random_size(rng)
    background, end = random_background(rng)
    num = num_shapes if num_shapes is not None else rng.choices((1, 2, 3), (0.45, 0.32, 0.23))[0]
    places = random_places(rng, width, height, num) if num else []
    shapes = tuple(random_shape(rng, background, place) for place in places)
    return Scene(width, height, background, end, shapes)
