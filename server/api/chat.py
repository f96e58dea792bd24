"""POST /v1/chat/completions: parse → admit → load media → prepare → submit → answer.

Every 4xx is raised before headers go out. The permit and the engine's request are given back
exactly once, whatever happens.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from model_runtime.checkpoint import Checkpoint
from server.admission import Admission, Permit
from server.api.connection import EventStreamResponse, read_body, until_gone
from server.api.logprobs import prompt_logprobs
from server.api.parse import parse_chat_request
from server.api.schemas import ChatCompletionRequest
from server.api.structured import find_grammar, is_structured
from server.api.translate import (
    chat_messages,
    check_model,
    check_token_ids,
    ending,
    media_requests,
    sampling_params,
)
from server.api.wire import (
    DONE,
    KEEP_ALIVE,
    Choice,
    CompletionWire,
    dumps,
    error_body,
    event,
    usage,
)
from server.engine.types import CompletionStream, Engine, GenerationRequest, TextDelta
from server.errors import (
    ApiError,
    ContextLengthError,
    EngineError,
    UnavailableError,
    internal_error,
)
from server.media.loader import MediaLoader
from server.metrics import Metrics
from server.prompt.builder import PromptBuilder
from server.prompt.types import PreparedPrompt
from server.settings import ServerSettings

logger = logging.getLogger(__name__)
KEEP_ALIVE_S = 15.0


@dataclass(slots=True)
class Answer:
    """One request being answered: what it holds, and what is known for usage and logs."""

    request_id: str
    permit: Permit
    started: float
    prompt: PreparedPrompt | None = None
    stream: CompletionStream | None = None
    num_unfinished: int = 1  # of the `n` choices
    num_tokens: int = 0
    num_cached_tokens: int = 0
    ttft_s: float | None = None
    last_token: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)  # for the access log

    def usage(self) -> dict[str, Any]:
        assert self.prompt is not None
        return usage(self.prompt, self.num_tokens, self.num_cached_tokens)

    def end(self) -> None:
        """Give everything back. Idempotent, synchronous, never blocks."""
        if self.stream is not None:
            self.stream.abort()
            self.facts.setdefault("finish", "none")  # the client left, or the engine failed
        self.permit.release()


class ChatService:
    """The steps of a chat completion over the parts that do the work."""

    def __init__(
        self,
        *,
        engine: Engine,
        media: MediaLoader,
        prompts: PromptBuilder,
        checkpoint: Checkpoint,
        settings: ServerSettings,
        admission: Admission,
        metrics: Metrics,
        model_name: str,
    ) -> None:
        self._engine = engine
        self._media = media
        self._prompts = prompts
        self._checkpoint = checkpoint
        self._settings = settings
        self._admission = admission
        self._metrics = metrics
        self._model_name = model_name

    async def handle(self, http: Request) -> Response:
        started = time.monotonic()
        body = await read_body(http, self._settings.max_body_bytes)
        request = await self._parse(body)
        self._check_servable(request)
        permit = self._admission.admit()
        answer = Answer(http.state.request_id, permit, started, facts=http.state.facts)
        is_handed_over = False
        try:
            await until_gone(http.receive, self._begin(request, answer))
            if request.stream:
                is_handed_over = True
                return EventStreamResponse(self._events(request, answer), answer.end)
            content = await until_gone(http.receive, self._collect(request, answer))
            return Response(dumps(content), media_type="application/json")
        finally:
            if not is_handed_over:
                answer.end()

    # ------------------------------------------------------------------ before the answer

    async def _parse(self, body: bytes) -> ChatCompletionRequest:
        """Bodies with data URLs are megabytes: parsed off the event loop."""
        if len(body) > 1 << 16:
            return await asyncio.to_thread(parse_chat_request, body)
        return parse_chat_request(body)

    def _check_servable(self, request: ChatCompletionRequest) -> None:
        check_model(request.model, self._model_name)
        health = self._engine.health()
        if not health.is_ready:
            raise UnavailableError(f"The server is not ready: {health.reason}.")

    async def _begin(self, request: ChatCompletionRequest, answer: Answer) -> None:
        """Everything that can be refused, then the engine."""
        check_token_ids(request, self._checkpoint.vocab_size)
        grammar = await asyncio.to_thread(find_grammar, request) if is_structured(request) else ""
        limits = self._settings.limit_mm_per_prompt
        wanted = media_requests(request, limits, self._checkpoint.tiles)
        media = await self._media.load_all(wanted)
        prompt = await self._prompts.prepare(chat_messages(request, media), ending(request))
        room = self._room_for_answer(len(prompt.token_ids))
        answer.prompt, answer.num_unfinished = prompt, request.n or 1
        answer.facts |= {"prompt_tokens": len(prompt.token_ids), "media": len(media)}
        answer.stream = self._engine.submit(
            GenerationRequest(
                request_id=answer.request_id,
                prompt=prompt,
                sampling=sampling_params(
                    request, self._checkpoint.generation, room, self._prompts.bad_word_ids
                ),
                stop=tuple(request.stop or ()),
                priority=request.priority or 0,
                n=request.n or 1,
                include_stop_str_in_output=bool(request.include_stop_str_in_output),
                skip_special_tokens=request.skip_special_tokens is not False,
                grammar=grammar,
                cache_salt=request.cache_salt or "",
            )
        )

    def _room_for_answer(self, num_prompt_tokens: int) -> int:
        """The engine's context may be smaller than the checkpoint's, by its memory."""
        room = self._engine.info.max_model_len - num_prompt_tokens
        if room < 1:
            raise ContextLengthError(
                f"The prompt has {num_prompt_tokens} tokens, but the context holds "
                f"{self._engine.info.max_model_len} including the answer.",
                param="messages",
            )
        return room

    # ------------------------------------------------------------------ the answer

    async def _collect(self, request: ChatCompletionRequest, answer: Answer) -> dict[str, Any]:
        assert answer.stream is not None
        choices = [Choice() for _ in range(request.n or 1)]
        extra: dict[str, Any] = {}
        async for delta in answer.stream:
            self._account(answer, delta)
            choices[delta.index].add(delta)
            if delta.prompt_logprobs is not None:
                scores = prompt_logprobs(delta.prompt_logprobs, self._prompts.token_bytes)
                extra["prompt_logprobs"] = scores
        if any(choice.finish_reason is None for choice in choices):
            raise EngineError("The engine ended this request without an answer.")
        if request.return_token_ids and answer.prompt is not None:
            extra["prompt_token_ids"] = answer.prompt.token_ids
        return self._wire(request, answer).completion(choices, answer.usage()) | extra

    def _wire(self, request: ChatCompletionRequest, answer: Answer) -> CompletionWire:
        options = request.stream_options
        return CompletionWire(
            answer.request_id,
            self._model_name,
            with_usage=bool(options and options.include_usage),
            with_token_ids=bool(request.return_token_ids),
            token_bytes=self._prompts.token_bytes if request.logprobs else None,
        )

    async def _events(
        self, request: ChatCompletionRequest, answer: Answer
    ) -> AsyncGenerator[bytes, None]:
        """Role, content, one finish reason, usage if asked, `[DONE]`; or an error event."""
        assert answer.stream is not None
        wire = self._wire(request, answer)
        is_counted = bool(request.stream_options and request.stream_options.continuous_usage_stats)
        try:
            for index in range(request.n or 1):
                yield wire.first_chunk(index)
            async for delta in _with_keep_alive(answer.stream):
                if delta is None:
                    yield KEEP_ALIVE
                    continue
                self._account(answer, delta)
                has_ids = request.return_token_ids and delta.token_ids
                if delta.text or delta.logprobs or has_ids or delta.finish_reason:
                    yield wire.chunk(delta, answer.usage() if is_counted else None)
        except Exception as error:
            yield event(error_body(self._explain(error)))
            return
        if request.stream_options and request.stream_options.include_usage:
            yield wire.usage_chunk(answer.usage())
        yield DONE

    def _explain(self, error: Exception) -> ApiError:
        """A failure inside a running stream, as what to tell the client."""
        if not isinstance(error, ApiError):
            logger.exception("a stream failed")
            error = internal_error()
        self._metrics.request_failure.labels(error.code).inc()
        return error

    def _account(self, answer: Answer, delta: TextDelta) -> None:
        """Metrics and log facts of one delta."""
        now = time.monotonic()
        if delta.num_tokens and answer.ttft_s is None:
            answer.ttft_s = now - answer.started
            self._metrics.time_to_first_token.observe(answer.ttft_s)
        elif delta.num_tokens:
            self._metrics.inter_token_latency.observe((now - answer.last_token) / delta.num_tokens)
        answer.last_token = now
        answer.num_tokens += delta.num_tokens
        if delta.index == 0:  # the others share its prompt
            answer.num_cached_tokens = delta.num_cached_tokens
        if delta.finish_reason is not None:
            answer.num_unfinished -= 1
            self._metrics.request_success.labels(delta.finish_reason).inc()
            answer.facts["finish"] = delta.finish_reason
        if not answer.num_unfinished:
            self._account_end(answer, now)

    def _account_end(self, answer: Answer, now: float) -> None:
        assert answer.prompt is not None
        self._metrics.prompt_tokens.inc(len(answer.prompt.token_ids))
        self._metrics.cached_prompt_tokens.inc(answer.num_cached_tokens)
        self._metrics.generation_tokens.inc(answer.num_tokens)
        self._metrics.e2e_latency.observe(now - answer.started)
        answer.facts |= {
            "completion_tokens": answer.num_tokens,
            "ttft_s": round(answer.ttft_s or 0.0, 3),
        }


async def _with_keep_alive(stream: CompletionStream) -> AsyncGenerator[TextDelta | None, None]:
    """The deltas, and None whenever there was none for a while."""
    deltas = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                delta = await anext(deltas)
        except StopAsyncIteration:
            return
        except TimeoutError:
            yield None
            continue
        yield delta
