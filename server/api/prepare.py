"""From a chat request to the engine: everything that can be refused is refused here."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace

from model_runtime.protocol import TileSet
from server.api.answer import Answer
from server.api.generation import generation_request, grammar_of, room_for_answer
from server.api.parts import Parts
from server.api.schemas import ChatCompletionRequest
from server.api.translate import (
    chat_messages,
    check_model,
    check_token_ids,
    ending,
    media_requests,
    tools,
)
from server.media.batch import MediaBatch
from server.media.types import MediaRequest
from server.prompt.types import PreparedPrompt


class ChatPreparation:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def begin(self, request: ChatCompletionRequest, answer: Answer) -> None:
        """The prompt is whole, and known to fit, before any pixel is decoded."""
        check_token_ids(request, self._parts.checkpoint.vocab_size)
        grammar = await grammar_of(request, self._parts)
        async with self._media(request) as media:
            prompt = await self._prompt(request, media)
            wanted = generation_request(
                request,
                self._parts,
                request_id=answer.request_id,
                deadline_s=answer.deadline_s,
                prompt=prompt,
                room=room_for_answer(len(prompt.token_ids), self._parts, "messages"),
                grammar=grammar,
            )
            answer.permit.reserve(wanted.num_expected_tokens)
            prompt = replace(prompt, tiles=await self._tiles(media))
        stream = self._parts.engine.submit(replace(wanted, prompt=prompt))
        answer.begin([prompt], request.n or 1, stream)

    async def count(self, request: ChatCompletionRequest) -> PreparedPrompt:
        """The prompt without pixels: media are measured by their headers, not decoded."""
        check_model(request.model, self._parts.model_name)
        async with self._media(request) as media:
            return await self._prompt(request, media)

    @asynccontextmanager
    async def _media(self, request: ChatCompletionRequest) -> AsyncIterator[MediaBatch]:
        """Fetched and measured. Texts wait for nobody's media."""
        wanted = self._wanted(request)
        async with AsyncExitStack() as stack:
            if wanted:
                stack.enter_context(self._parts.admission.loading_media())
            with self._parts.tracer.span("media fetch") if wanted else nullcontext():
                media = await stack.enter_async_context(self._parts.media.open(wanted))
            yield media

    async def _tiles(self, media: MediaBatch) -> list[TileSet]:
        if not media.planned:
            return []
        with self._parts.tracer.span("media decode"):
            return await media.load()

    def _wanted(self, request: ChatCompletionRequest) -> list[MediaRequest]:
        limits = self._parts.settings.limit_mm_per_prompt
        return media_requests(request, limits, self._parts.checkpoint.tiles)

    async def _prompt(self, request: ChatCompletionRequest, media: MediaBatch) -> PreparedPrompt:
        messages = chat_messages(request, media.planned)
        with self._parts.tracer.span("prompt"):
            return await self._parts.prompts.prepare(messages, ending(request), tools(request))
