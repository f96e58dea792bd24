"""POST /v1/messages and /v1/messages/count_tokens, in Anthropic's shape."""

from starlette.requests import Request
from starlette.responses import Response

from server.api.answer import Answer
from server.api.answering import Answering
from server.api.conversation import Translated
from server.api.messages.form import MessagesFormat
from server.api.messages.translate import parse_messages_prompt, parse_messages_request
from server.api.parts import Parts
from server.api.prepare import ChatPreparation
from server.api.translate import check_model
from server.api.wire import dumps


class MessagesService:
    def __init__(self, parts: Parts, answering: Answering, preparation: ChatPreparation) -> None:
        self._parts = parts
        self._answering = answering
        self._preparation = preparation

    async def create(self, http: Request) -> Response:
        """Answer a conversation in Anthropic's shape."""
        asked = await self._answering.read(http, parse_messages_request)
        check_model(asked.wire.model, self._parts.model_name)
        translated = asked.translated

        async def begin(answer: Answer) -> None:
            with translated.paths.restored():
                await self._preparation.begin(translated.request, answer)

        form = MessagesFormat(
            http.state.request_id,
            self._parts.model_name,
            with_calls=bool(translated.request.usable_tools),
            max_tokens=asked.wire.max_tokens,
        )
        is_streamed = bool(asked.wire.stream)
        return await self._answering.respond(http, begin, form, is_streamed=is_streamed)

    async def count_tokens(self, http: Request) -> Response:
        """Tokens of a conversation, media included, without an answer."""
        asked = await self._answering.read(http, parse_messages_prompt)
        count = await self._answering.work_out(http, self._count(asked.translated))
        return Response(dumps({"input_tokens": count}), media_type="application/json")

    async def _count(self, translated: Translated) -> int:
        with translated.paths.restored():
            return len((await self._preparation.count(translated.request)).token_ids)
