"""POST /tokenize and /detokenize, in vLLM's shape: what a prompt becomes, without an answer.

Media of a conversation go through the same gate as those of a completion.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from model_runtime.checkpoint import Checkpoint
from server.admission import Admission
from server.api.connection import read_body, until_gone
from server.api.parse import chat_request, parse_json, validated
from server.api.schemas import DetokenizeRequest, TokenizeRequest
from server.api.translate import chat_messages, check_model, ending, media_requests
from server.api.wire import dumps
from server.engine.types import Engine
from server.errors import InvalidRequestError
from server.media.loader import MediaLoader
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings


class TokenizeService:
    """Works while the model loads; needs no worker."""

    def __init__(
        self,
        *,
        engine: Engine,
        media: MediaLoader,
        prompts: PromptBuilder,
        checkpoint: Checkpoint,
        settings: ServerSettings,
        admission: Admission,
        model_name: str,
    ) -> None:
        self._engine = engine
        self._media = media
        self._prompts = prompts
        self._checkpoint = checkpoint
        self._settings = settings
        self._admission = admission
        self._model_name = model_name

    async def tokenize(self, http: Request) -> Response:
        """Ids of a text (`prompt`) or of a conversation (`messages`)."""
        content = await self._content(http)
        permit = self._admission.admit()
        try:
            work = self._of_messages(content) if "messages" in content else self._of_text(content)
            token_ids = await until_gone(http.receive, work)
        finally:
            permit.release()
        return _json(
            {
                "count": len(token_ids),
                "max_model_len": self._max_model_len(),
                "tokens": token_ids,
                "token_strs": self._token_strs(content, token_ids),
            }
        )

    async def detokenize(self, http: Request) -> Response:
        """The text of tokens."""
        request = validated(DetokenizeRequest, await self._content(http))
        check_model(request.model, self._model_name)
        vocab_size = self._checkpoint.vocab_size
        if request.tokens and not 0 <= min(request.tokens) <= max(request.tokens) < vocab_size:
            raise InvalidRequestError(
                f"Token ids lie between 0 and {vocab_size - 1}.",
                param="tokens",
                code="invalid_value",
            )
        return _json({"prompt": await self._prompts.decode(request.tokens)})

    async def _content(self, http: Request) -> dict[str, Any]:
        body = await read_body(http, self._settings.max_body_bytes)
        return await asyncio.to_thread(parse_json, body)

    async def _of_text(self, content: dict[str, Any]) -> list[int]:
        request = validated(TokenizeRequest, content)
        check_model(request.model, self._model_name)
        return await self._prompts.encode(request.prompt)

    async def _of_messages(self, content: dict[str, Any]) -> list[int]:
        request = await asyncio.to_thread(chat_request, content)
        check_model(request.model, self._model_name)
        limits = self._settings.limit_mm_per_prompt
        wanted = media_requests(request, limits, self._checkpoint.tiles)
        messages = chat_messages(request, await self._media.load_all(wanted))
        return (await self._prompts.prepare(messages, ending(request))).token_ids

    def _token_strs(self, content: dict[str, Any], token_ids: list[int]) -> list[str] | None:
        if content.get("return_token_strs") is not True:
            return None
        return [self._prompts.token_bytes(i).decode("utf-8", "replace") for i in token_ids]

    def _max_model_len(self) -> int:
        """The engine's when it is known: its memory may hold less than the checkpoint allows."""
        is_ready = self._engine.health().is_ready
        return self._engine.info.max_model_len if is_ready else self._checkpoint.context_len


def _json(content: dict[str, Any]) -> Response:
    return Response(dumps(content), media_type="application/json")
