"""A chat server whose times and answers a test knows."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.fakes import run_server


@dataclass
class FakeOpenAI:
    first_s: float = 0.0  # to the first content
    gap_s: float = 0.0  # between contents
    num_chunks: int = 4
    tokens_per_chunk: int = 2
    has_usage: bool = True
    breaks_off: bool = False
    refusals: dict[int, tuple[int, str]] = field(default_factory=dict)  # by number: status, code
    bodies: list[dict[str, Any]] = field(default_factory=list)
    num_running: int = 0
    most_running: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()
        app.add_api_route("/v1/models", self._models)
        app.add_api_route("/v1/chat/completions", self._chat, methods=["POST"])
        return app

    async def _models(self) -> dict[str, Any]:
        return {"data": [{"id": "fake"}, {"id": "other"}]}

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        if refusal := self.refusals.get(len(self.bodies)):
            status, code = refusal
            return JSONResponse({"error": {"code": code, "message": "No."}}, status)
        return StreamingResponse(self._events(body), media_type="text/event-stream")

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            yield _choice({"role": "assistant", "content": ""})
            await asyncio.sleep(self.first_s)
            for number in range(self.num_chunks):
                await asyncio.sleep(self.gap_s if number else 0)
                yield _choice({"content": "word "})
            if self.breaks_off:
                return
            yield _choice({}, "length")
            if self.has_usage:
                yield _event({"choices": [], "usage": self._usage(body)})
            yield b"data: [DONE]\n\n"
        finally:
            self.num_running -= 1

    def _usage(self, body: dict[str, Any]) -> dict[str, Any]:
        """Ten tokens around the text, and two for each of its words."""
        content = body["messages"][0]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        completion = self.num_chunks * self.tokens_per_chunk
        return {"prompt_tokens": 10 + 2 * len(text.split()), "completion_tokens": completion}


@contextmanager
def serve(fake: FakeOpenAI) -> Iterator[str]:
    with run_server(fake.app()) as base:
        yield f"{base}/v1"


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
