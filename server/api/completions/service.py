"""POST /v1/completions: texts or token ids as they are, without a template."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from server.api.answering import Answering
from server.api.completions.form import CompletionFormat
from server.api.completions.parse import parse_completion_request
from server.api.completions.prepare import CompletionPreparation
from server.api.parts import Parts
from server.api.translate import check_model


class CompletionService:
    def __init__(
        self, parts: Parts, answering: Answering, preparation: CompletionPreparation
    ) -> None:
        self._parts = parts
        self._answering = answering
        self._preparation = preparation

    async def handle(self, http: Request) -> Response:
        """Continue texts."""
        request = await self._answering.read(http, parse_completion_request)
        check_model(request.model, self._parts.model_name)
        form = CompletionFormat(request, self._parts, http.state.request_id)
        begin = partial(self._preparation.begin, request)
        return await self._answering.respond(http, begin, form, is_streamed=bool(request.stream))
