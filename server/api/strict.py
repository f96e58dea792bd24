"""The base of wire types that take no unknown fields: what is not there is refused by name."""

from typing import Any

from pydantic import ConfigDict

from server.api.schemas import Wire


class Strict(Wire):
    """Strict types, no unknown fields, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


def type_tag(value: Any) -> str | None:
    """Which member of a union: its `type`. Tags begin with `#`, so that no path of an error
    mistakes them for fields."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"#{kind}" if isinstance(kind, str) else None
