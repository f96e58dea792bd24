"""One server: a question as a stream of what its answer brings."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from clients.target import (
    ClientError,
    error_message,
    first_model,
    key_header,
    refusal,
    unreachable,
)

_CONNECT_S, _SILENCE_S = 10, 300


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer: text, or what the server says about it at the end."""

    text: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    finish: str | None = None


class Client:
    """Keeps one connection. `sampling`: fields that go into every request."""

    def __init__(
        self, base_url: str, api_key: str | None, model: str | None, sampling: dict[str, Any]
    ) -> None:
        timeout = httpx.Timeout(_CONNECT_S, read=_SILENCE_S, write=_SILENCE_S)
        self._http = httpx.Client(headers=key_header(api_key), timeout=timeout)
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._sampling = sampling

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def stream(self, messages: list[dict[str, Any]]) -> Iterator[Piece]:
        """The answer piece by piece; closing it tells the server to stop. Raises ClientError."""
        body = {"model": self.model, "messages": messages, **self._sampling, "stream": True}
        body["stream_options"] = {"include_usage": True}
        try:
            url = f"{self._base_url}/chat/completions"
            with self._http.stream("POST", url, json=body) as response:
                if response.status_code >= 400:
                    raise ClientError(refusal(response.status_code, response.read()))
                yield from _pieces(response)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise unreachable(self._base_url) from error
        except httpx.HTTPError as error:
            raise ClientError(f"The connection failed ({type(error).__name__}).") from error

    @property
    def model(self) -> str:
        """The model to ask for: the given one, else the server's first. Raises ClientError."""
        if self._model is None:
            try:
                self._model = first_model(self._http.get(f"{self._base_url}/models"))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise unreachable(self._base_url) from error
        return self._model


def _pieces(response: httpx.Response) -> Iterator[Piece]:
    """Raises ClientError for an error in the stream, or when it ends before it is whole."""
    is_whole = False
    for line in response.iter_lines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data == "[DONE]":
            return
        if line.startswith("data:"):
            for piece in _read(data):
                is_whole |= piece.finish is not None
                yield piece
    if not is_whole:
        raise ClientError("The server broke off in the middle of its answer.")


def _read(data: str) -> Iterator[Piece]:
    try:
        event = json.loads(data)
        if event.get("error"):
            raise ClientError(error_message(event))
        for choice in event.get("choices") or ():
            yield Piece(choice["delta"].get("content") or "", finish=choice.get("finish_reason"))
        if event.get("usage"):
            yield Piece(usage=event["usage"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClientError("The server's answer is not a chat stream; see --base-url.") from error
