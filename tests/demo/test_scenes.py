"""Drawings and answers: deterministic per seed, and true to the scene."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from model_runtime.demo.training import questions, videos
from model_runtime.demo.training.drawing import draw
from model_runtime.demo.training.samples import FAMILIES
from model_runtime.demo.training.scenes import CLEAR_GAP, SHAPES, random_scene
from model_runtime.demo.training.tiles import NO_LABEL, cut_tiles, label_tiles


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_fixes_a_sample(family: str) -> None:
    first, again = (FAMILIES[family](Random(3)) for _ in range(2))
    assert first.branches == again.branches
    for a, b in zip(first.prefix, again.prefix, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("seed", range(50))
def test_shapes_are_in_order_and_in_sight(seed: int) -> None:
    scene = random_scene(Random(seed))
    xs = [shape.x for shape in scene.shapes]
    ys = [shape.y for shape in scene.shapes]
    apart = all(b - a >= CLEAR_GAP for a, b in zip(xs, xs[1:], strict=False))
    assert apart or ys == sorted(ys)
    for shape in scene.shapes:
        assert 0 < shape.x < 1 and 0 < shape.y < 1


def test_a_filled_shape_has_its_colour_in_the_middle() -> None:
    for seed in range(20):
        scene = random_scene(Random(seed), num_shapes=1, size=(200, 200))
        shape = replace(scene.shapes[0], style="filled", radius=0.2)
        picture = draw(replace(scene, shapes=(shape,)))
        assert picture.getpixel((round(shape.x * 200), round(shape.y * 200))) == shape.rgb


@pytest.mark.parametrize("seed", range(30))
def test_answers_agree_with_the_scene(seed: int) -> None:
    rng = Random(seed)
    scene = random_scene(rng)
    for question, answer, kind in questions.picture_turns(rng, scene):
        if kind == "count":
            assert str(len(scene.shapes)) in answer
        if kind == "describe":
            assert all(shape.name in answer for shape in scene.shapes)
        if kind == "side":
            side = scene.shapes[0 if "left" in question else -1]
            assert f"{side.color} {side.kind}" in answer


def test_a_clip_moves_where_its_answer_says() -> None:
    for seed in range(20):
        clip = videos.random_clip(Random(seed), 8)
        first, last = clip.frames[0].shapes[0], clip.frames[-1].shapes[0]
        moved = {"left": first.x - last.x, "right": last.x - first.x,
                 "up": first.y - last.y, "down": last.y - first.y}  # fmt: skip
        assert max(moved, key=lambda way: moved[way]) == clip.direction
        answers = [answer for _, answer, _ in videos.clip_turns(Random(seed), clip)]
        assert sum(clip.way in answer for answer in answers) == 2


def test_labels_follow_the_tiles() -> None:
    scene = random_scene(Random(1), num_shapes=2, size=(300, 300))
    labels = label_tiles(scene, 4)
    assert len(labels) == len(cut_tiles(draw(scene), 4)) == 5
    thumbnail = labels[-1]
    said = thumbnail[thumbnail[:, 0] != NO_LABEL][:, 0]
    assert sorted(SHAPES[kind] for kind in said) == sorted(s.kind for s in scene.shapes)
