"""From a chat request to the engine: everything that can be refused is refused here."""

from dataclasses import replace

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
        async with self._parts.media.open(self._wanted(request)) as media:
            prompt = await self._prompt(request, media)
            room = room_for_answer(len(prompt.token_ids), self._parts, "messages")
            prompt = replace(prompt, tiles=await media.load())
        wanted = generation_request(
            request,
            self._parts,
            request_id=answer.request_id,
            prompt=prompt,
            room=room,
            grammar=grammar,
        )
        stream = self._parts.engine.submit(wanted)
        answer.begin([prompt], request.n or 1, stream)

    async def count(self, request: ChatCompletionRequest) -> PreparedPrompt:
        """The prompt without pixels: media are measured by their headers, not decoded."""
        check_model(request.model, self._parts.model_name)
        async with self._parts.media.open(self._wanted(request)) as media:
            return await self._prompt(request, media)

    def _wanted(self, request: ChatCompletionRequest) -> list[MediaRequest]:
        limits = self._parts.settings.limit_mm_per_prompt
        return media_requests(request, limits, self._parts.checkpoint.tiles)

    async def _prompt(self, request: ChatCompletionRequest, media: MediaBatch) -> PreparedPrompt:
        messages = chat_messages(request, media.planned)
        return await self._parts.prompts.prepare(messages, ending(request), tools(request))
