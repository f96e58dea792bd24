"""Input lines as requests: OpenAI's batch lines, bare chat bodies, or {"prompt", "image"}."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.media import file_url, is_remote
from clients.target import ClientError

_CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Job:
    custom_id: str
    path: str  # begins with /v1/
    body: dict[str, Any]


class LineError(Exception):
    """A line that is no request; it becomes an error result."""


def custom_id(line: bytes, number: int) -> str:
    """The line's own name, or its number from 1 on."""
    try:
        return str(json.loads(line)["custom_id"])
    except (ValueError, LookupError, TypeError):
        return f"line-{number + 1}"


def read_job(line: bytes, number: int, folder: Path, model: str | None) -> Job:
    """`folder`: where files of {"image": FILE} lie. Raises LineError."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise LineError("The line is not JSON.") from error
    if not isinstance(value, dict):
        raise LineError("The line is not a JSON object.")
    path, body = _CHAT, value
    if "body" in value:
        path, body = value.get("url", _CHAT), value["body"]
    elif "prompt" in value:
        body = _short(value, folder)
    if not isinstance(body, dict) or not str(path).startswith("/v1/"):
        raise LineError("A batch line needs an object as `body` and a `url` such as " + _CHAT)
    body = {k: v for k, v in body.items() if k not in ("stream", "stream_options", "custom_id")}
    return Job(custom_id(line, number), path, body | ({"model": model} if model else {}))


def _short(value: dict[str, Any], folder: Path) -> dict[str, Any]:
    """{"prompt": …, "image": …, "video": …} with any fields of a chat request besides."""
    parts = [_part(kind, source, folder) for kind, source in _media(value)]
    text = {"type": "text", "text": value["prompt"]}
    rest = {k: v for k, v in value.items() if k not in ("prompt", "image", "video")}
    return rest | {"messages": [{"role": "user", "content": [*parts, text]}]}


def _media(value: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for kind in ("image", "video"):
        sources = value.get(kind, [])
        found += [(kind, str(s)) for s in (sources if isinstance(sources, list) else [sources])]
    return found


def _part(kind: str, source: str, folder: Path) -> dict[str, Any]:
    url = source if is_remote(source) else _inside(kind, source, folder)
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def _inside(kind: str, source: str, folder: Path) -> str:
    """Lines may come from elsewhere: they reach no file outside the folder of the input."""
    path = (folder / source).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise LineError(f"`{kind}` must lie in the folder of the input file.")
    try:
        return file_url(kind, path)
    except ClientError as error:
        raise LineError(str(error)) from error
