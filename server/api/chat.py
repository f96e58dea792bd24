"""POST /v1/chat/completions: OpenAI's shape around the way of every answer."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.api.answer import Answer
from server.api.answering import Answering
from server.api.logprobs import prompt_logprobs
from server.api.parse import parse_chat_request
from server.api.parts import Parts
from server.api.prepare import ChatPreparation
from server.api.schemas import ChatCompletionRequest
from server.api.translate import check_model
from server.api.wire import DONE, Choice, CompletionWire, error_body, event, usage
from server.engine.types import TextDelta
from server.errors import ApiError


class ChatService:
    def __init__(self, parts: Parts, answering: Answering, preparation: ChatPreparation) -> None:
        self._parts = parts
        self._answering = answering
        self._preparation = preparation

    async def handle(self, http: Request) -> Response:
        request = await self._answering.read(http, parse_chat_request)
        check_model(request.model, self._parts.model_name)
        form = ChatFormat(request, self._parts, http.state.request_id)
        begin = partial(self._preparation.begin, request)
        return await self._answering.respond(http, begin, form, is_streamed=bool(request.stream))


class ChatFormat:
    """Role, content, one finish reason per choice, usage if asked, `[DONE]`; or an error event."""

    def __init__(self, request: ChatCompletionRequest, parts: Parts, request_id: str) -> None:
        self._token_bytes = parts.prompts.token_bytes
        self._with_ids = bool(request.return_token_ids)
        options = request.stream_options
        self._with_usage = bool(options and options.include_usage)
        self._with_counts = bool(options and options.continuous_usage_stats)
        self._wire = CompletionWire(
            request_id,
            parts.model_name,
            with_usage=self._with_usage,
            with_token_ids=self._with_ids,
            with_calls=bool(request.usable_tools),
            token_bytes=self._token_bytes if request.logprobs else None,
        )

    def whole(self, choices: list[Choice], answer: Answer) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        scores = choices[0].prompt_logprobs
        if scores is not None:
            extra["prompt_logprobs"] = prompt_logprobs(scores, self._token_bytes)
        if self._with_ids:
            extra["prompt_token_ids"] = answer.prompts[0].token_ids
        return self._wire.completion(choices, usage(answer)) | extra

    def opening(self, answer: Answer) -> Iterator[bytes]:
        return (self._wire.first_chunk(index) for index in range(answer.num_choices))

    def piece(self, delta: TextDelta, answer: Answer) -> Iterator[bytes]:
        has_ids = self._with_ids and delta.token_ids
        if delta.text or delta.logprobs or has_ids or delta.finish_reason:
            yield from self._wire.chunks(delta, usage(answer) if self._with_counts else None)

    def closing(self, answer: Answer) -> Iterator[bytes]:
        if self._with_usage:
            yield self._wire.usage_chunk(usage(answer))
        yield DONE

    def failure(self, error: ApiError) -> bytes:
        return event(error_body(error))
