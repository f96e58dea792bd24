"""One request in the shapes of the four endpoints, and what their answers say."""

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from tests.soak.material import Part

if TYPE_CHECKING:
    from tests.soak.plan import Plan


class Endpoint(Enum):
    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"

    @property
    def takes_n(self) -> bool:
        return self in (Endpoint.CHAT, Endpoint.COMPLETIONS)


@dataclass(slots=True)
class Said:
    """What an answer says so far: the texts and ends of its choices, or the error in it."""

    texts: dict[int, str] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    is_closed: bool = False  # a stream told that nothing follows

    def add(self, index: int, text: str | None, end: str | None) -> None:
        self.texts[index] = self.texts.get(index, "") + (text or "")
        if end is not None:
            assert index not in self.ends, "a choice ended twice"
            self.ends[index] = end


# ------------------------------------------------------------------ requests


def body_of(plan: "Plan") -> dict[str, Any]:
    write = {
        Endpoint.CHAT: _chat,
        Endpoint.COMPLETIONS: _completion,
        Endpoint.RESPONSES: _response,
        Endpoint.MESSAGES: _message,
    }[plan.endpoint]
    return {**write(plan), "stream": plan.is_streamed}


def _chat(plan: "Plan") -> dict[str, Any]:
    content = [
        {"type": "text", "text": part.value}
        if part.kind == "text"
        else {"type": f"{part.kind}_url", f"{part.kind}_url": {"url": part.value}}
        for part in plan.parts
    ]
    body = {"messages": [{"role": "user", "content": content}], **plan.options}
    if plan.schema:
        form = {"name": "it", "schema": plan.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def _completion(plan: "Plan") -> dict[str, Any]:
    return {"prompt": " ".join(part.value for part in plan.parts), **plan.options}


def _response(plan: "Plan") -> dict[str, Any]:
    content = [
        {"type": f"input_{part.kind}", "text" if part.kind == "text" else f"{part.kind}_url":
         part.value}
        for part in plan.parts
    ]  # fmt: skip
    options = {"max_output_tokens" if k == "max_tokens" else k: v for k, v in plan.options.items()}
    body: dict[str, Any] = {"input": [{"role": "user", "content": content}], **options}
    if plan.schema:
        body["text"] = {"format": {"type": "json_schema", "name": "it", "schema": plan.schema}}
    return body


def _message(plan: "Plan") -> dict[str, Any]:
    options = {"stop_sequences" if k == "stop" else k: v for k, v in plan.options.items()}
    content = [_block(part) for part in plan.parts]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], **options}
    if plan.schema:
        body["output_config"] = {"format": {"type": "json_schema", "schema": plan.schema}}
    return body


def _block(part: Part) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.value}
    return {"type": part.kind, "source": {"type": "url", "url": part.value}}


# ------------------------------------------------------------------ answers


def read_whole(endpoint: Endpoint, body: dict[str, Any]) -> Said:
    said = Said(is_closed=True, error=body.get("error"))
    if said.error is not None:
        return said
    if endpoint is Endpoint.CHAT:
        for choice in body["choices"]:
            said.add(choice["index"], choice["message"]["content"], choice["finish_reason"])
    elif endpoint is Endpoint.COMPLETIONS:
        for choice in body["choices"]:
            said.add(choice["index"], choice["text"], choice["finish_reason"])
    elif endpoint is Endpoint.RESPONSES:
        said.add(0, _output_text(body), _status(body))
    else:
        said.add(0, "".join(block["text"] for block in body["content"]), body["stop_reason"])
    return said


def read_line(endpoint: Endpoint, line: str, said: Said) -> None:
    """One line of an event stream."""
    if not line.startswith("data: "):
        return
    assert not said.is_closed, "something came after the end"
    data = line.removeprefix("data: ")
    if data == "[DONE]":
        said.is_closed = True
        return
    event = json.loads(data)
    if event.get("error") is not None:
        said.error = event["error"]
    elif endpoint is Endpoint.RESPONSES:
        _read_response_event(event, said)
    elif endpoint is Endpoint.MESSAGES:
        _read_message_event(event, said)
    else:
        for choice in event["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            said.add(choice["index"], text, choice["finish_reason"])


def _read_response_event(event: dict[str, Any], said: Said) -> None:
    kind = event["type"]
    if kind == "response.output_text.delta":
        said.add(0, event["delta"], None)
    elif kind in ("response.completed", "response.incomplete"):
        said.add(0, "", _status(event["response"]))
        assert said.texts[0] == _output_text(event["response"]), "the pieces are not the whole"
        said.is_closed = True
    elif kind == "response.failed":
        said.error = event["response"]["error"]
    elif kind == "error":
        said.error = event


def _read_message_event(event: dict[str, Any], said: Said) -> None:
    kind = event["type"]
    if kind == "content_block_delta":
        said.add(0, event["delta"]["text"], None)
    elif kind == "message_delta":
        said.add(0, "", event["delta"]["stop_reason"])
    elif kind == "message_stop":
        said.is_closed = True


def _output_text(body: dict[str, Any]) -> str:
    return "".join(part["text"] for item in body["output"] for part in item.get("content", ()))


def _status(body: dict[str, Any]) -> str | None:
    return body["status"] if body["status"] in ("completed", "incomplete") else None
