"""From a chat request to the engine: everything that can be refused is refused here."""

import asyncio
from dataclasses import replace

from server.api.answer import Answer
from server.api.parts import Parts
from server.api.schemas import ChatCompletionRequest
from server.api.structured import find_grammar, is_structured
from server.api.translate import (
    chat_messages,
    check_model,
    check_token_ids,
    ending,
    media_requests,
    sampling_params,
    tools,
)
from server.engine.types import GenerationRequest
from server.errors import ContextLengthError
from server.media.batch import MediaBatch
from server.media.types import MediaRequest
from server.prompt.tools import CALL_BEGIN
from server.prompt.types import PreparedPrompt


class ChatPreparation:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def begin(self, request: ChatCompletionRequest, answer: Answer) -> None:
        """The prompt is whole, and known to fit, before any pixel is decoded."""
        check_token_ids(request, self._parts.checkpoint.vocab_size)
        grammar = await self._grammar(request)
        async with self._parts.media.open(self._wanted(request)) as media:
            prompt = await self._prompt(request, media)
            room = self.room_for_answer(prompt)
            prompt = replace(prompt, tiles=await media.load())
        sampling = sampling_params(
            request, self._parts.checkpoint.generation, room, self._parts.prompts.bad_word_ids
        )
        stream = self._parts.engine.submit(
            GenerationRequest(
                request_id=answer.request_id,
                prompt=prompt,
                sampling=sampling,
                stop=tuple(request.stop or ()),
                priority=request.priority or 0,
                n=request.n or 1,
                include_stop_str_in_output=bool(request.include_stop_str_in_output),
                skip_special_tokens=request.skip_special_tokens is not False,
                grammar=grammar,
                cache_salt=request.cache_salt or "",
            )
        )
        answer.begin([prompt], request.n or 1, stream)

    async def count(self, request: ChatCompletionRequest) -> PreparedPrompt:
        """The prompt without pixels: media are measured by their headers, not decoded."""
        check_model(request.model, self._parts.model_name)
        async with self._parts.media.open(self._wanted(request)) as media:
            return await self._prompt(request, media)

    def room_for_answer(self, prompt: PreparedPrompt) -> int:
        """The engine's context may be smaller than the checkpoint's, by its memory."""
        max_model_len = self._parts.max_model_len
        room = max_model_len - len(prompt.token_ids)
        if room < 1:
            raise ContextLengthError(
                f"The prompt has {len(prompt.token_ids)} tokens, but the context holds "
                f"{max_model_len} including the answer.",
                param="messages",
            )
        return room

    async def _grammar(self, request: ChatCompletionRequest) -> str:
        if not is_structured(request):
            return ""
        marks_are_tokens = self._parts.prompts.has_token(CALL_BEGIN)
        return await asyncio.to_thread(find_grammar, request, marks_are_tokens)

    def _wanted(self, request: ChatCompletionRequest) -> list[MediaRequest]:
        limits = self._parts.settings.limit_mm_per_prompt
        return media_requests(request, limits, self._parts.checkpoint.tiles)

    async def _prompt(self, request: ChatCompletionRequest, media: MediaBatch) -> PreparedPrompt:
        messages = chat_messages(request, media.planned)
        return await self._parts.prompts.prepare(messages, ending(request), tools(request))
