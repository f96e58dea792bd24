"""What somebody wrote for a setting → its value. Whatever makes no sense raises ValueError,
KeyError, TypeError or AttributeError."""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

_BOOLS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off"), False
)
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class MediaLimits:
    """Media parts that one request may have."""

    image: int = 16
    video: int = 4

    def __str__(self) -> str:
        return f"image={self.image},video={self.video}"


def convert(setting: "dataclasses.Field[Any]", raw: Any) -> Any:
    """By the field's type. `raw` is a text, or of a repeatable flag a list of them."""
    if setting.metadata.get("size"):
        return parse_size(raw)
    kind = setting.type
    if kind is bool:
        return raw if isinstance(raw, bool) else _BOOLS[raw.lower()]
    if get_origin(kind) is tuple:
        return _parse_list(raw)
    if kind is MediaLimits:
        return _parse_limits(raw)
    if get_origin(kind) is Literal:
        if raw not in get_args(kind):
            raise ValueError(raw)
        return raw
    if not isinstance(raw, str):
        raise ValueError(raw)
    if kind in (int, int | None):
        return int(raw)
    return float(raw) if kind is float else raw


def _parse_list(raw: str | list[str]) -> tuple[str, ...]:
    """An empty item is refused: an empty --api-key would otherwise mean no key at all."""
    parts = [part.strip() for part in (raw.split(",") if isinstance(raw, str) else raw)]
    if not all(parts):
        raise ValueError(raw)
    return tuple(parts)


def _parse_limits(raw: str) -> MediaLimits:
    """`{"image": 4}` or `image=4,video=1`; what is not named keeps its default."""
    if raw.lstrip().startswith("{"):
        given = json.loads(raw)
    else:
        given = dict(part.strip().split("=") for part in raw.split(","))
    limits = MediaLimits(**{kind: int(count) for kind, count in given.items()})
    if min(limits.image, limits.video) < 0:
        raise ValueError(raw)
    return limits


def parse_size(text: str) -> int:
    """`4GiB`, `512m`, `1000` → bytes; units are powers of 1024."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)(i?b)?\s*", str(text).lower())
    if not match:
        raise ValueError(text)
    return int(float(match[1]) * _SIZE_UNITS[match[2]])
