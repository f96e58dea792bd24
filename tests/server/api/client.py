"""What the tests of the HTTP side say and hear."""

import json
from typing import Any

import httpx

HELLO = {"messages": [{"role": "user", "content": "Hi"}]}


def post(url: str, body: Any, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    return httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers, **options)


def events(response: httpx.Response, *, is_failed: bool = False) -> list[Any]:
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert is_failed or parts.pop() == "data: [DONE]"
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error
