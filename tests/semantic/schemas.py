"""Random JSON schemas whose values are all of bounded length."""

import random
from typing import Any

_FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email"]
_PATTERNS = ["^[a-z]{2,6}$", "^[A-Z][0-9]{3}$", "^(yes|no|maybe)$", "^#[0-9a-f]{6}$", "^\\d{1,4}$"]
_WORDS = ["red", "green", "blue", "näher", "日本", 'a "quote"', "", "1"]


def random_schema(chance: random.Random) -> dict[str, Any]:
    """An object at the root, as `strict` wants it; sometimes with definitions."""
    definitions = {name: _value(chance, 2, []) for name in ("one", "two")[: chance.randint(0, 2)]}
    schema = _object(chance, 0, list(definitions))
    return schema | ({"$defs": definitions} if definitions else {})


def _value(chance: random.Random, depth: int, names: list[str]) -> dict[str, Any]:
    simple = [_string, _number, _choice, _constant, _pattern, _format, _yes_or_no, _nothing]
    deep = [_object, _array, _any_of] if depth < 3 else []
    if names and chance.random() < 0.2:
        return {"$ref": f"#/$defs/{chance.choice(names)}"}
    make = chance.choice([*simple, *deep, *deep])
    return make(chance, depth, names)


def _object(chance: random.Random, depth: int, names: list[str]) -> dict[str, Any]:
    count = chance.randint(1, 4)
    properties = {
        f"{chance.choice('abcä')}{i}": _value(chance, depth + 1, names) for i in range(count)
    }
    required = [name for name in properties if chance.random() < 0.8]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _array(chance: random.Random, depth: int, names: list[str]) -> dict[str, Any]:
    least = chance.randint(0, 2)
    most = least + chance.randint(0, 2)
    items = _value(chance, depth + 1, names)
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _any_of(chance: random.Random, depth: int, names: list[str]) -> dict[str, Any]:
    return {"anyOf": [_value(chance, depth + 1, names) for _ in range(chance.randint(2, 3))]}


def _string(chance: random.Random, *_: object) -> dict[str, Any]:
    least = chance.randint(0, 4)
    return {"type": "string", "minLength": least, "maxLength": least + chance.randint(0, 8)}


def _number(chance: random.Random, *_: object) -> dict[str, Any]:
    low = chance.randint(-1000, 1000)
    high = low + chance.randint(0, 500)
    edges = {"minimum": low, "maximum": high}
    if chance.random() < 0.3:
        edges = {"exclusiveMinimum": low - 1, "exclusiveMaximum": high + 1}
    return {"type": "integer", **edges}


def _choice(chance: random.Random, *_: object) -> dict[str, Any]:
    return {"enum": chance.sample([*_WORDS, 1, 2.5, True, None], chance.randint(1, 4))}


def _constant(chance: random.Random, *_: object) -> dict[str, Any]:
    return {"const": chance.choice([*_WORDS, 42, False, {"a": [1]}])}


def _pattern(chance: random.Random, *_: object) -> dict[str, Any]:
    return {"type": "string", "pattern": chance.choice(_PATTERNS)}


def _format(chance: random.Random, *_: object) -> dict[str, Any]:
    return {"type": "string", "format": chance.choice(_FORMATS), "maxLength": 40}


def _yes_or_no(*_: object) -> dict[str, Any]:
    return {"type": "boolean"}


def _nothing(*_: object) -> dict[str, Any]:
    return {"type": "null"}
