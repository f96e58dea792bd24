"""The shipped checkpoint: small, loadable, and right about a handful of fixed pictures."""

from functools import lru_cache

import pytest
from PIL import Image, ImageDraw
from transformers import AutoConfig

from model_runtime.demo.training.measure import Answerer, image_span
from model_runtime.demo.training.tiles import cut_tiles
from model_runtime.demo.training.train import SHIPPED

MAX_BYTES = 16_000_000


@lru_cache(maxsize=1)
def shipped() -> Answerer:
    return Answerer(SHIPPED)


def ask(question: str, picture: Image.Image | None = None) -> str:
    tiles = None if picture is None else cut_tiles(picture, 4)
    media = "" if tiles is None else f"{image_span(len(tiles))}\n"
    prompt = f"<|im_start|>user\n{media}{question}<|im_end|>\n<|im_start|>assistant\n"
    return shipped().answer(prompt, tiles)


def two_shapes() -> Image.Image:
    picture = Image.new("RGB", (400, 300), "white")
    canvas = ImageDraw.Draw(picture)
    canvas.ellipse((40, 100, 140, 200), fill="red")
    canvas.rectangle((250, 90, 350, 190), fill="blue")
    return picture


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= MAX_BYTES


def test_its_config_is_internvl() -> None:
    config = AutoConfig.from_pretrained(SHIPPED)
    assert config.architectures == ["InternVLForConditionalGeneration"]
    assert config.image_seq_length == 16


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many shapes are there?", "2"),
        ("What is on the left?", "red circle"),
        ("What is on the right?", "blue square"),
        ("Describe the image.", "red circle and a blue square"),
    ],
)
def test_it_sees_two_shapes(question: str, expected: str) -> None:
    assert expected in ask(question, two_shapes())


@pytest.mark.parametrize("color", ["red", "green", "blue", "orange", "purple", "black"])
def test_it_knows_colours(color: str) -> None:
    picture = Image.new("RGB", (224, 224), "white")
    ImageDraw.Draw(picture).ellipse((60, 60, 160, 160), fill=color)
    assert color in ask("What color is the shape?", picture)


def test_it_counts_and_says_what_it_is() -> None:
    assert ask("Count from 1 to 50").startswith("1, 2, 3, 4, 5,")
    assert "49, 50" in ask("Count from 1 to 50")
    assert "demo model" in ask("Who are you?")
