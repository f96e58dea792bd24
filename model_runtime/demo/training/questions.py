"""Questions about pictures and their answers, each a function of the scene alone."""

from collections.abc import Sequence
from random import Random

from model_runtime.demo.training.scenes import CLEAR_GAP, Scene, Shape

Turn = tuple[str, str, str]
"""Question, answer, kind of question."""

ORDINALS = ("first", "second", "third")
EXACT_SHARE = 0.55
"""How often the first, canonical phrasing is used."""
EXTRAS_SHARE = 0.4
"""How often a rarer question about several shapes is asked."""

COLOR = ("What color is the shape?", "What colour is the shape?", "What color is it?",
         "Which color is the shape?", "What is the color of the shape?", "Name the color.",
         "What color does the shape have?", "What color is this shape?")  # fmt: skip
SHAPE = ("What shape is in the image?", "What shape is this?", "What shape is it?",
         "Which shape is in the image?", "What shape is in the picture?", "Name the shape.",
         "What shape do you see?", "What kind of shape is it?",
         "Which shape is shown?")  # fmt: skip
COUNT = ("How many shapes are there?", "How many shapes are in the image?",
         "How many objects are there?", "Count the shapes.", "How many shapes do you see?",
         "How many shapes are in the picture?", "How many objects are in the image?")  # fmt: skip
SIDE = ("What is on the {side}?", "What is on the {side} side?", "Which shape is on the {side}?",
        "What is at the {side}?", "What's on the {side}?",
        "What shape is on the {side}?", "What do you see on the {side}?")  # fmt: skip
DESCRIBE = ("Describe the image.", "What is in the image?", "Describe this picture.",
            "What do you see?", "Describe this image.", "What is in the picture?",
            "What does the image show?", "Describe the picture.", "What is this?",
            "What is in this image?", "Tell me what you see.", "What's in this image?",
            "What can you see in the image?", "Please describe the image.")  # fmt: skip
NTH = ("What is in the {nth} image?", "What does the {nth} image show?",
       "Describe the {nth} image.", "What is in the {nth} picture?",
       "What do you see in the {nth} image?", "What's in the {nth} image?")  # fmt: skip
IMAGES = ("How many images are there?", "How many pictures do you see?")
ALL_IMAGES = ("Describe the images.", "What do the images show?", "What is in the images?")


def phrase(rng: Random, variants: Sequence[str], **words: str) -> str:
    """One of the phrasings, the first one most often; sometimes sloppily typed."""
    text = variants[0] if rng.random() < EXACT_SHARE else rng.choice(variants)
    text = text.format(**words)
    if rng.random() < 0.12:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.1:
        text = text.rstrip("?.")
    return text


def join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def listing(scene: Scene) -> str:
    """The shapes in order, as in `a red circle and a blue square`."""
    return join([shape.name for shape in scene.shapes]) if scene.shapes else "no shapes"


def description(scene: Scene, what: str = "image") -> str:
    return f"The {what} shows {listing(scene)}."


def color_turn(rng: Random, scene: Scene) -> Turn:
    colors = [shape.color for shape in scene.shapes]
    if len(colors) == 1:
        return phrase(rng, COLOR), f"The shape is {colors[0]}.", "color"
    return (
        phrase(rng, ("What colors are the shapes?", *COLOR[:1])),
        (f"The shapes are {join(colors)}."),
        "colors",
    )


def shape_turn(rng: Random, scene: Scene) -> Turn:
    kinds = [f"a {shape.kind}" for shape in scene.shapes]
    if len(kinds) == 1:
        return phrase(rng, SHAPE), f"The shape is {kinds[0]}.", "shape"
    return (
        phrase(rng, ("What shapes are in the image?", *SHAPE[:1])),
        (f"The shapes are {join(kinds)}."),
        "shapes",
    )


def count_turn(rng: Random, scene: Scene) -> Turn:
    num = len(scene.shapes)
    answer = "There is 1 shape." if num == 1 else f"There are {num} shapes."
    return phrase(rng, COUNT), answer, "count"


def side_turn(rng: Random, scene: Scene) -> Turn | None:
    """Left or right, unless the shapes stand one above the other."""
    if scene.shapes[-1].x - scene.shapes[0].x < CLEAR_GAP:
        return None
    side = rng.choice(("left", "right"))
    shape = scene.shapes[0 if side == "left" else -1]
    return phrase(rng, SIDE, side=side), _placed(shape, f"on the {side}"), "side"


def height_turn(rng: Random, scene: Scene) -> Turn | None:
    """Top or bottom, when the shapes' heights leave no doubt."""
    by_height = sorted(scene.shapes, key=lambda shape: shape.y)
    side = rng.choice(("top", "bottom"))
    if side == "bottom":
        by_height.reverse()
    if abs(by_height[0].y - by_height[1].y) < CLEAR_GAP:
        return None
    question = phrase(rng, ("What is at the {side}?", "Which shape is at the {side}?"), side=side)
    return question, _placed(by_height[0], f"at the {side}"), "height"


def shape_color_turn(rng: Random, scene: Scene) -> Turn | None:
    """`What color is the star?`, when there is one star only."""
    shape = rng.choice(scene.shapes)
    if sum(other.kind == shape.kind for other in scene.shapes) > 1:
        return None
    question = phrase(rng, ("What color is the {kind}?", "What colour is the {kind}?"),
                      kind=shape.kind)  # fmt: skip
    return question, f"The {shape.kind} is {shape.color}.", "color_of"


def describe_turn(rng: Random, scene: Scene) -> Turn:
    return phrase(rng, DESCRIBE), description(scene), "describe"


def picture_turns(rng: Random, scene: Scene) -> list[Turn]:
    """Questions that the scene answers without doubt, in random order."""
    turns: list[Turn | None] = [describe_turn(rng, scene), count_turn(rng, scene)]
    if len(scene.shapes) == 1:
        turns += [color_turn(rng, scene), shape_turn(rng, scene)]
    if len(scene.shapes) > 1:
        turns += [side_turn(rng, scene), side_turn(rng, scene)]
        extras = (color_turn, shape_turn, height_turn, shape_color_turn)
        turns += [make(rng, scene) for make in extras if rng.random() < EXTRAS_SHARE]
    found = list(dict.fromkeys(turn for turn in turns if turn))
    rng.shuffle(found)
    return found


def several_turns(rng: Random, scenes: Sequence[Scene]) -> list[Turn]:
    """Questions about two or three pictures: every picture once, and all of them."""
    turns = []
    for nth, scene in zip(ORDINALS, scenes, strict=False):
        turns.append((phrase(rng, NTH, nth=nth), description(scene, f"{nth} image"), "nth"))
        if len(scene.shapes) == 1 and rng.random() < 0.4:
            shape = scene.shapes[0]
            question = f"What color is the shape in the {nth} image?"
            turns.append((question, f"The shape is {shape.color}.", "nth_color"))
    turns.append((phrase(rng, IMAGES), f"There are {len(scenes)} images.", "images"))
    if rng.random() < 0.3:
        parts = zip(ORDINALS, scenes, strict=False)
        answer = " ".join(description(scene, f"{nth} image") for nth, scene in parts)
        turns.append((phrase(rng, ALL_IMAGES), answer, "all_images"))
    rng.shuffle(turns)
    return turns


def _placed(shape: Shape, where: str) -> str:
    return f"{shape.name[0].upper()}{shape.name[1:]} is {where}."
