"""What each request of a soak is, drawn from a seed: the same seed gives the same requests."""

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from tests.soak.material import Known, Material, Part
from tests.soak.shapes import Endpoint

_TALK = ("Tell me a story", "Write a haiku", "Who are you?", "Count from 1 to 50", "Good morning")
_SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
    "required": ["color", "count"],
    "additionalProperties": False,
}
_WITH_SCHEMAS = (Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.MESSAGES)


class Manner(Enum):
    """How the client behaves, and how often."""

    STAYS = 0.65
    LEAVES = 0.20
    BRINGS_BAD_MEDIA = 0.10
    READS_SLOWLY = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """One request. `options` are named as in /v1/chat/completions."""

    number: int
    manner: Manner
    endpoint: Endpoint
    kind: str
    parts: tuple[Part, ...]
    options: dict[str, Any]
    is_streamed: bool
    known: Known | None = None
    schema: dict[str, Any] | None = None
    leaves_after_s: float = 0.0
    sends_half: bool = False  # and leaves with the body half sent

    @property
    def n(self) -> int:
        n: int = self.options.get("n", 1)
        return n


def draw(seed: int, number: int, material: Material) -> Plan:
    chance = random.Random(f"{seed}/{number}")
    manner = chance.choices(list(Manner), [manner.value for manner in Manner])[0]
    if manner is Manner.BRINGS_BAD_MEDIA:
        return _bad(chance, number, material)
    if manner is Manner.READS_SLOWLY:
        return _slow(chance, number)
    kinds = {_known: 40, _text: 20, _picture: 18, _video: 8, _structured: 14}
    make = chance.choices(list(kinds), list(kinds.values()))[0]
    plan = make(chance, number, material)
    return _leaving(chance, plan) if manner is Manner.LEAVES else plan


def alone(known: Known, endpoint: Endpoint) -> Plan:
    """The request that is asked before the crowd comes."""
    options = {"temperature": 0, "max_tokens": 160}
    return Plan(-1, Manner.STAYS, endpoint, "known", known.parts, options, False, known)


def endpoints_for(known: Known) -> tuple[Endpoint, ...]:
    return (Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.MESSAGES)


def _known(chance: random.Random, number: int, material: Material) -> Plan:
    known = chance.choice(material.known)
    endpoint = chance.choice(endpoints_for(known))
    options = alone(known, endpoint).options
    is_streamed = chance.random() < 0.5
    return Plan(
        number, Manner.STAYS, endpoint, "known", known.parts, options, is_streamed, known=known
    )


def _text(chance: random.Random, number: int, _: Material) -> Plan:
    endpoint = chance.choice(list(Endpoint))
    text = f"{chance.choice(_TALK)} ({number})" + " and so on" * chance.choice((0, 0, 3, 200))
    options = _sampling(chance, endpoint)
    parts = (Part("text", text),)
    return Plan(number, Manner.STAYS, endpoint, "text", parts, options, chance.random() < 0.5)


def _picture(chance: random.Random, number: int, material: Material) -> Plan:
    endpoint = chance.choice(_WITH_SCHEMAS)
    urls = chance.sample(material.pictures, chance.choice((1, 1, 1, 2, 3)))
    parts = (*(Part("image", url) for url in urls), Part("text", f"Describe it. ({number})"))
    options = _sampling(chance, endpoint)
    return Plan(number, Manner.STAYS, endpoint, "picture", parts, options, chance.random() < 0.5)


def _video(chance: random.Random, number: int, material: Material) -> Plan:
    endpoint = chance.choice(_WITH_SCHEMAS)
    parts = (Part("video", chance.choice(material.clips)), Part("text", f"What? ({number})"))
    options = _sampling(chance, endpoint)
    return Plan(number, Manner.STAYS, endpoint, "video", parts, options, chance.random() < 0.5)


def _structured(chance: random.Random, number: int, _: Material) -> Plan:
    endpoint = chance.choice(_WITH_SCHEMAS)
    options = {"max_tokens": 200, "temperature": chance.choice((0, 1.0))}
    parts = (Part("text", f"Give me a color and a count ({number})"),)
    return Plan(
        number, Manner.STAYS, endpoint, "structured", parts, options, chance.random() < 0.5,
        schema=_SCHEMA,
    )  # fmt: skip


def _sampling(chance: random.Random, endpoint: Endpoint) -> dict[str, Any]:
    options: dict[str, Any] = {
        "max_tokens": chance.choice((1, 16, 48, 120)),
        "temperature": chance.choice((0, 0.8, 1.3)),
    }
    if endpoint.takes_n and chance.random() < 0.4:
        options["n"] = chance.choice((2, 3, 5))
        options["temperature"] = 1.0
    if endpoint.takes_n and chance.random() < 0.3:
        options["ignore_eos"] = True
    if endpoint is not Endpoint.RESPONSES and chance.random() < 0.2:
        options["stop"] = ["er", "xyz"]
    return options


def _bad(chance: random.Random, number: int, material: Material) -> Plan:
    parts = [chance.choice(material.bad), Part("text", f"Look! ({number})")]
    if chance.random() < 0.4:  # beside one that is good
        parts.insert(0, Part("image", chance.choice(material.pictures)))
    return Plan(
        number, Manner.BRINGS_BAD_MEDIA, chance.choice(_WITH_SCHEMAS), "bad media", tuple(parts),
        {"max_tokens": 8}, chance.random() < 0.5,
    )  # fmt: skip


def _slow(chance: random.Random, number: int) -> Plan:
    """An answer of megabytes, so that the sockets cannot hold it."""
    options = {"max_tokens": 120, "n": 2, "ignore_eos": True, "temperature": 1.0}
    options |= {"logprobs": True, "top_logprobs": 20}
    parts = (Part("text", f"Tell me a long story ({number})"),)
    return Plan(number, Manner.READS_SLOWLY, Endpoint.CHAT, "slow", parts, options, True)


def _leaving(chance: random.Random, plan: Plan) -> Plan:
    return replace(
        plan,
        manner=Manner.LEAVES,
        leaves_after_s=chance.choice((0.002, 0.02, 0.1, 0.4, 1.5)) * chance.random(),
        sends_half=chance.random() < 0.15,
    )
