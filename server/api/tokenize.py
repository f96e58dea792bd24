"""POST /tokenize and /detokenize, in vLLM's shape: what a prompt becomes, without an answer.

Media of a conversation go through the same gate as those of a completion.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.api.answering import Answering
from server.api.parse import chat_request, parse_json, validated
from server.api.parts import Parts
from server.api.prepare import ChatPreparation
from server.api.schemas import DetokenizeRequest, TokenizeRequest
from server.api.translate import check_model
from server.api.wire import dumps
from server.errors import InvalidRequestError


class TokenizeService:
    """Works while the model loads; needs no worker."""

    def __init__(self, parts: Parts, answering: Answering, preparation: ChatPreparation) -> None:
        self._parts = parts
        self._answering = answering
        self._preparation = preparation

    async def tokenize(self, http: Request) -> Response:
        """Ids of a text (`prompt`) or of a conversation (`messages`)."""
        content = await self._answering.read(http, parse_json)
        work = self._of_messages(content) if "messages" in content else self._of_text(content)
        token_ids = await self._answering.work_out(http, work)
        return _json(
            {
                "count": len(token_ids),
                "max_model_len": self._parts.max_model_len,
                "tokens": token_ids,
                "token_strs": self._token_strs(content, token_ids),
            }
        )

    async def detokenize(self, http: Request) -> Response:
        """The text of tokens."""
        request = validated(DetokenizeRequest, await self._answering.read(http, parse_json))
        check_model(request.model, self._parts.model_name)
        vocab_size = self._parts.checkpoint.vocab_size
        if request.tokens and not 0 <= min(request.tokens) <= max(request.tokens) < vocab_size:
            raise InvalidRequestError(
                f"Token ids lie between 0 and {vocab_size - 1}.",
                param="tokens",
                code="invalid_value",
            )
        return _json({"prompt": await self._parts.prompts.decode(request.tokens)})

    async def _of_text(self, content: dict[str, Any]) -> list[int]:
        request = validated(TokenizeRequest, content)
        check_model(request.model, self._parts.model_name)
        return await self._parts.prompts.encode(request.prompt)

    async def _of_messages(self, content: dict[str, Any]) -> list[int]:
        request = await asyncio.to_thread(chat_request, content)
        return (await self._preparation.count(request)).token_ids

    def _token_strs(self, content: dict[str, Any], token_ids: list[int]) -> list[str] | None:
        if content.get("return_token_strs") is not True:
            return None
        return [self._parts.prompts.token_bytes(i).decode("utf-8", "replace") for i in token_ids]


def _json(content: dict[str, Any]) -> Response:
    return Response(dumps(content), media_type="application/json")
