"""The demo model's contract, measured over HTTP with streaming and many clients.

    python -m tests.demo.heldout --base-url http://127.0.0.1:8000/v1 --per-kind 40

Prints a table and a last line of JSON. `--alone N` asks N questions again, one at a time, and
compares the answers.
"""

import argparse
import asyncio
import base64
import collections
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai

from tests.demo import independent as media

NUMBERS = {1: "one", 2: "two", 3: "three"}
HONEST = ("cannot", "can't", "only know", "do not know", "don't know", "not sure", "do not see")


@dataclass(frozen=True)
class Case:
    """A conversation and the judge of its answer."""

    kind: str
    messages: list[dict[str, Any]]
    is_right: Callable[[str], bool]
    expected: str


def cases(per_kind: int, seed: int) -> list[Case]:
    return [
        make(random.Random(f"{seed}-{kind}-{i}"), i)
        for kind, make in KINDS.items()
        for i in range(per_kind)
    ]


def _url(kind: str, media_type: str, data: bytes) -> dict[str, Any]:
    url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def _image(chance: random.Random, picture: media.Picture) -> dict[str, Any]:
    return _url("image", *media.encode(chance, media.draw(picture)))


def _user(*parts: dict[str, Any] | str) -> dict[str, Any]:
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": "user", "content": content}


def _contains(*words: str) -> Callable[[str], bool]:
    return lambda answer: all(word in answer.lower() for word in words)


def _contains_not(word: str, others: list[str]) -> Callable[[str], bool]:
    def judge(answer: str) -> bool:
        said = answer.lower().replace(".", " ").split()
        return word in said and not any(other in said for other in others)

    return judge


def _one_word(kind: str, question: str, words: tuple[str, ...], attribute: str) -> Any:
    def make(chance: random.Random, _: int) -> Case:
        picture = media.random_picture(chance, 1)
        right = getattr(picture.shapes[0], attribute)
        others = [word for word in words if word != right]
        judge = _contains_not(right, others)
        return Case(kind, [_user(_image(chance, picture), question)], judge, right)

    return make


def _count(chance: random.Random, index: int) -> Case:
    number = index % 3 + 1
    picture = media.random_picture(chance, number)
    names = [str(number), NUMBERS[number]]

    def judge(answer: str) -> bool:
        return bool(set(answer.lower().replace(".", " ").split()) & set(names))

    question = "How many shapes are there?"
    return Case("count", [_user(_image(chance, picture), question)], judge, names[0])


def _side(side: str) -> Any:
    def make(chance: random.Random, _: int) -> Case:
        picture = media.random_picture(chance, chance.choice((2, 2, 3)))
        shape = picture.shapes[0 if side == "left" else -1]
        question = f"What is on the {side}?"
        messages = [_user(_image(chance, picture), question)]
        return Case(side, messages, _contains(shape.words), shape.words)

    return make


def _describe(chance: random.Random, index: int) -> Case:
    picture = media.random_picture(chance, index % 3 + 1)
    words = [shape.words for shape in picture.shapes]
    messages = [_user(_image(chance, picture), "Describe the image.")]
    return Case("describe", messages, _contains(*words), ", ".join(words))


def _several(chance: random.Random, index: int) -> Case:
    number = chance.choice((2, 3))
    pictures = [media.random_picture(chance, 1) for _ in range(number)]
    which = index % number
    question = f"What is in the {('first', 'second', 'third')[which]} image?"
    words = pictures[which].shapes[0].words
    messages = [_user(*(_image(chance, picture) for picture in pictures), question)]
    return Case("images", messages, _contains(words), words)


def _follow_up(chance: random.Random, _: int) -> Case:
    picture = media.random_picture(chance, 1)
    shape = picture.shapes[0]
    messages = [
        _user(_image(chance, picture), "What shape is in the image?"),
        {"role": "assistant", "content": f"The shape is a {shape.name}."},
        _user("What color is the shape?"),
    ]
    others = [color for color in media.COLORS if color != shape.color]
    return Case("follow_up", messages, _contains_not(shape.color, others), shape.color)


def _video(kind: str, question: str) -> Any:
    def make(chance: random.Random, index: int) -> Case:
        direction = list(media.DIRECTIONS)[index % 4]
        shape, data = media.random_video(chance, direction)
        others = [other for other in media.DIRECTIONS if other != direction]
        moves = _contains_not(direction, others)
        is_named = _contains(shape.words) if kind == "event" else _contains()
        messages = [_user(_url("video", "video/mp4", data), question)]
        expected = f"{shape.words} {direction}"
        return Case(kind, messages, lambda a: moves(a) and is_named(a), expected)

    return make


def _text(kind: str, questions: tuple[str, ...], judge: Callable[[str], bool]) -> Any:
    def make(_: random.Random, index: int) -> Case:
        question = questions[index % len(questions)]
        return Case(kind, [{"role": "user", "content": question}], judge, question)

    return make


def _counts_to_50(answer: str) -> bool:
    digits = [
        int(word) for word in answer.replace(",", " ").replace(".", " ").split() if word.isdigit()
    ]
    return digits == list(range(1, 51))


def _unknown(chance: random.Random, _: int) -> Case:
    part = _url("image", *media.encode(chance, media.unknown_picture(chance)))
    judge: Callable[[str], bool] = lambda a: any(word in a.lower() for word in HONEST)  # noqa: E731
    return Case("unknown", [_user(part, "Describe the image.")], judge, "an honest sentence")


KINDS: dict[str, Any] = {
    "color": _one_word("color", "What color is the shape?", tuple(media.COLORS), "color"),
    "shape": _one_word("shape", "What shape is in the image?", media.SHAPES, "name"),
    "count": _count,
    "left": _side("left"),
    "right": _side("right"),
    "describe": _describe,
    "images": _several,
    "follow_up": _follow_up,
    "direction": _video("direction", "Which way does the shape move?"),
    "event": _video("event", "What happens in the video?"),
    "greeting": _text("greeting", ("Hello!", "Hi", "Good morning"), lambda a: "hello" in a.lower()),
    "who": _text("who", ("Who are you?",), _contains("demo", "shapes", "internvl3 checkpoint")),
    "haiku": _text(
        "haiku", ("Write a haiku", "Write a haiku."), lambda a: a.strip().count("\n") == 2
    ),
    "count_to_50": _text("count_to_50", ("Count from 1 to 50",), _counts_to_50),
    "unknown": _unknown,
}


async def ask(client: openai.AsyncOpenAI, model: str, case: Case) -> str:
    stream = await client.chat.completions.create(
        model=model,
        messages=case.messages,
        stream=True,
        temperature=0,  # type: ignore[arg-type]
    )
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


async def measure(
    base_url: str, per_kind: int, concurrency: int, seed: int, alone: int = 0
) -> dict[str, Any]:
    """Accuracy by kind and overall, and how many answers alone differ from those in the crowd."""
    todo = cases(per_kind, seed)
    random.Random(seed).shuffle(todo)  # strangers beside each other
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", timeout=300) as client:
        model = (await client.models.list()).data[0].id
        slots = asyncio.Semaphore(concurrency)

        async def one(case: Case) -> str:
            async with slots:
                return await ask(client, model, case)

        started = time.monotonic()
        answers = await asyncio.gather(*map(one, todo))
        seconds = time.monotonic() - started
        again = [await ask(client, model, case) for case in todo[:alone]]
    right: dict[str, list[bool]] = collections.defaultdict(list)
    wrong = []
    for case, answer in zip(todo, answers, strict=True):
        right[case.kind].append(case.is_right(answer))
        if not right[case.kind][-1]:
            wrong.append((case.kind, case.expected, answer))
    shares = {kind: sum(right[kind]) / len(right[kind]) for kind in KINDS}
    total = sum(map(sum, right.values())) / len(todo)
    return {
        "overall": round(total, 4),
        "kinds": {kind: round(share, 3) for kind, share in shares.items()},
        "num_requests": len(todo),
        "seconds": round(seconds, 1),
        "num_alone": alone,
        "num_different_alone": sum(a != b for a, b in zip(again, answers, strict=False)),
        "wrong": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--per-kind", type=int, default=40)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", type=int, default=0)
    parser.add_argument("--show-wrong", action="store_true")
    a = parser.parse_args()
    result = asyncio.run(measure(a.base_url, a.per_kind, a.concurrency, a.seed, a.alone))
    wrong = result.pop("wrong")
    lines = [f"{kind:12} {share:6.1%}" for kind, share in result["kinds"].items()]
    lines += [f"{'overall':12} {result['overall']:6.1%}"]
    if a.show_wrong:
        lines += [f"{kind}: expected {want!r}, got {got!r}" for kind, want, got in wrong]
    sys.stdout.write("\n".join([*lines, json.dumps(result)]) + "\n")


if __name__ == "__main__":
    main()
