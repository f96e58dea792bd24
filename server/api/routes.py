"""Which URL is answered by what."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.api.answering import Answering, Work
from server.api.batches.batches import BatchesService
from server.api.batches.execute import Endpoint, LineExecutor, behind_all
from server.api.batches.files import FilesService
from server.api.batches.house import BatchHouse
from server.api.batches.schemas import BatchEndpoint
from server.api.catalog import Catalog
from server.api.chat import ChatFormat, ChatService
from server.api.completions.form import CompletionFormat
from server.api.completions.parse import completion_request
from server.api.completions.prepare import CompletionPreparation
from server.api.completions.service import CompletionService
from server.api.messages.service import MessagesService
from server.api.parse import chat_request
from server.api.parts import Parts
from server.api.prepare import ChatPreparation
from server.api.responses.service import ResponsesService
from server.api.tokenize import TokenizeService
from server.lifecycle import Lifecycle

Handler = Callable[[Request], Awaitable[Response]]


def add_routes(
    app: FastAPI,
    parts: Parts,
    answering: Answering,
    preparation: ChatPreparation,
    responses: ResponsesService,
    lifecycle: Lifecycle,
) -> None:
    async def readyz(request: Request) -> Response:
        """Requests are admitted and the worker made progress lately."""
        if lifecycle.is_draining:
            return JSONResponse({"status": "unavailable", "reason": "draining"}, 503)
        return await catalog.readyz(request)

    chat = ChatService(parts, answering, preparation)
    tokenizing = TokenizeService(parts, answering, preparation)
    messages = MessagesService(parts, answering, preparation)
    catalog = Catalog(parts)
    posts = {
        "/v1/chat/completions": chat.handle,
        "/v1/responses": responses.create,
        "/v1/messages": messages.create,
        "/v1/messages/count_tokens": messages.count_tokens,
        "/tokenize": tokenizing.tokenize,
        "/detokenize": tokenizing.detokenize,
    }
    gets = {
        "/version": catalog.version,
        "/v1/models": catalog.models,
        "/v1/models/{model:path}": catalog.model,
        "/v1/responses/{response_id}": responses.retrieve,
        "/v1/responses/{response_id}/input_items": responses.input_items,
        "/livez": catalog.livez,
        "/readyz": readyz,
        "/health": readyz,
        "/metrics": catalog.metrics,
    }
    deletes = {"/v1/responses/{response_id}": responses.delete}
    for method, routes in (("POST", posts), ("GET", gets), ("DELETE", deletes)):
        _route(app, method, routes)


def add_more_routes(
    app: FastAPI,
    parts: Parts,
    answering: Answering,
    completing: CompletionPreparation,
    house: BatchHouse,
) -> None:
    completions = CompletionService(parts, answering, completing)
    files = FilesService(parts, house)
    batches = BatchesService(answering, house, files)
    posts = {
        "/v1/completions": completions.handle,
        "/v1/files": files.upload,
        "/v1/batches": batches.create,
        "/v1/batches/{batch_id}/cancel": batches.cancel,
    }
    gets = {
        "/v1/files": files.list,
        "/v1/files/{file_id}": files.retrieve,
        "/v1/files/{file_id}/content": files.content,
        "/v1/batches": batches.list,
        "/v1/batches/{batch_id}": batches.retrieve,
    }
    deletes = {"/v1/files/{file_id}": files.delete}
    for method, routes in (("POST", posts), ("GET", gets), ("DELETE", deletes)):
        _route(app, method, routes)


def _route(app: FastAPI, method: str, routes: Mapping[str, Handler]) -> None:
    for path, handler in routes.items():
        endpoint = _endpoint(handler)
        app.add_api_route(path, endpoint, methods=[method])


def batch_house(
    parts: Parts,
    answering: Answering,
    chatting: ChatPreparation,
    completing: CompletionPreparation,
    responses: ResponsesService,
) -> BatchHouse:
    def chat(content: dict[str, Any], request_id: str) -> Work:
        request = behind_all(chat_request(content), parts.model_name)
        return Work(partial(chatting.begin, request), ChatFormat(request, parts, request_id))

    def completion(content: dict[str, Any], request_id: str) -> Work:
        request = behind_all(completion_request(content), parts.model_name)
        form = CompletionFormat(request, parts, request_id)
        return Work(partial(completing.begin, request), form)

    endpoints: dict[BatchEndpoint, Endpoint] = {
        "/v1/chat/completions": chat,
        "/v1/completions": completion,
        "/v1/responses": responses.of_batch,
    }
    return BatchHouse(parts.settings, LineExecutor(parts, answering, endpoints).execute)


def _endpoint(handler: Handler) -> Handler:
    """A function that FastAPI takes for an endpoint of its own: it reads the annotation."""

    async def endpoint(request: Request) -> Response:
        return await handler(request)

    endpoint.__name__ = handler.__name__
    endpoint.__doc__ = handler.__doc__
    return endpoint
