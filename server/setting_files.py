"""Settings and keys that are written in files. Raises SettingsError, which names the file.

TOML, because the standard library reads it, and because it has types: YAML would take `no` for
false and `1e3` for a text.
"""

import difflib
import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any


class SettingsError(Exception):
    """A flag, variable or file has a value that cannot be used; the message names it."""


def read_config_file(path: str, known: Collection[str]) -> dict[str, Any]:
    """By setting, what a flag would be given: a text, or a list of them. `known`: their names."""
    try:
        content = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is no valid TOML: {error}") from error
    found: dict[str, Any] = {}
    for shown_name, value in content.items():
        name = shown_name.replace("-", "_")
        if name not in known:
            raise SettingsError(f"{path}: there is no setting {shown_name!r}.{_hint(name, known)}")
        if name in found:
            raise SettingsError(f"{path} has {shown_name!r} twice, with - and with _.")
        found[name] = _as_typed(value)
    return found


def read_key_file(path: str) -> tuple[str, ...]:
    """One key a line; empty lines and those that begin with # are skipped."""
    lines = [line.strip() for line in _text(path).splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise SettingsError(f"{path} holds no key: the server would be open to anyone.")
    return keys


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as a text file.") from error


def _as_typed(value: Any) -> Any:
    """As somebody would type it after a flag, so that one parser serves both."""
    if isinstance(value, list):
        return [_as_typed(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0].replace('_', '-')!r}?" if near else ""
