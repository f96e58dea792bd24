"""Puts the HTTP side together: routes, middleware, error answers, start and stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from model_runtime.checkpoint import Checkpoint
from server.admission import Admission
from server.api.answering import Answering
from server.api.batches.batches import BatchesService
from server.api.batches.execute import Endpoint, LineExecutor
from server.api.batches.files import FilesService
from server.api.batches.house import BatchHouse
from server.api.batches.schemas import BatchEndpoint
from server.api.catalog import Catalog
from server.api.chat import ChatFormat, ChatService
from server.api.completions.form import CompletionFormat
from server.api.completions.parse import completion_request
from server.api.completions.prepare import CompletionPreparation
from server.api.completions.service import CompletionService
from server.api.connection import ClientGoneError
from server.api.document import document
from server.api.error_answers import error_answer
from server.api.messages.service import MessagesService
from server.api.parse import chat_request
from server.api.parts import Parts
from server.api.prepare import ChatPreparation
from server.api.responses.service import ResponsesService
from server.api.tokenize import TokenizeService
from server.engine.types import Engine
from server.errors import ApiError, MethodNotAllowedError, NotFoundError, internal_error
from server.media.budget import ByteBudget
from server.media.loader import MediaLoader
from server.metrics import Metrics
from server.middleware import KeyCheck, RequestContext
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


def create_app(
    *,
    engine: Engine,
    media: MediaLoader,
    prompts: PromptBuilder,
    checkpoint: Checkpoint,
    settings: ServerSettings,
    metrics: Metrics,
    on_ready: Callable[[], None] = lambda: None,
    on_load_failure: Callable[[Exception], None] = lambda error: None,
) -> FastAPI:
    """The application. The server listens while the model loads; `/readyz` tells when it is."""
    model_name = settings.served_model_name or checkpoint.model_id
    admission = Admission(settings.max_num_seqs + settings.max_waiting_requests)
    _expose(metrics, admission, prompts)
    parts = Parts(
        engine=engine,
        media=media,
        prompts=prompts,
        checkpoint=checkpoint,
        settings=settings,
        admission=admission,
        metrics=metrics,
        model_name=model_name,
    )
    answering, preparation = Answering(parts), ChatPreparation(parts)
    completing = CompletionPreparation(parts)
    house = _batch_house(parts, answering, preparation, completing)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await house.start()  # first: the folder may be another server's
        await media.start()
        loading = asyncio.create_task(_load(engine, on_ready, on_load_failure))
        try:
            yield
        finally:
            loading.cancel()
            await house.stop()  # before the engine: a line that it ends is no failed line
            await engine.stop()
            await media.stop()

    app = FastAPI(
        title="internvl-server",
        lifespan=lifespan,
        root_path=settings.root_path,
        redirect_slashes=False,
    )
    _add_routes(app, parts, answering, preparation)
    _add_more_routes(app, parts, answering, completing, house)
    document(app)
    _add_error_answers(app, metrics)
    _add_middleware(app, settings)
    return app


async def _load(
    engine: Engine, on_ready: Callable[[], None], on_failure: Callable[[Exception], None]
) -> None:
    try:
        await engine.start()
    except Exception as error:
        on_failure(error)
    else:
        on_ready()


def _add_routes(
    app: FastAPI, parts: Parts, answering: Answering, preparation: ChatPreparation
) -> None:
    chat = ChatService(parts, answering, preparation)
    tokenizing = TokenizeService(parts, answering, preparation)
    responses = ResponsesService(parts, answering, preparation)
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
        "/readyz": catalog.readyz,
        "/health": catalog.readyz,
        "/metrics": catalog.metrics,
    }
    deletes = {"/v1/responses/{response_id}": responses.delete}
    for method, routes in (("POST", posts), ("GET", gets), ("DELETE", deletes)):
        _route(app, parts, method, routes)


def _add_more_routes(
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
        _route(app, parts, method, routes)


def _route(app: FastAPI, parts: Parts, method: str, routes: Mapping[str, Handler]) -> None:
    for path, handler in routes.items():
        endpoint = _endpoint(handler, parts.media.budget)
        app.add_api_route(path, endpoint, methods=[method])


def _batch_house(
    parts: Parts,
    answering: Answering,
    chatting: ChatPreparation,
    completing: CompletionPreparation,
) -> BatchHouse:
    endpoints: dict[BatchEndpoint, Endpoint[Any]] = {
        "/v1/chat/completions": Endpoint(chat_request, chatting.begin, ChatFormat),
        "/v1/completions": Endpoint(completion_request, completing.begin, CompletionFormat),
    }
    return BatchHouse(parts.settings, LineExecutor(parts, answering, endpoints).execute)


def _endpoint(handler: Handler, budget: ByteBudget) -> Handler:
    """A function that FastAPI takes for an endpoint of its own: it reads the annotation.

    The body counts until the handler ends; a stream of events that follows needs it no more.
    """

    async def endpoint(request: Request) -> Response:
        with budget.loan() as loan:
            request.state.loan = loan
            return await handler(request)

    endpoint.__name__ = handler.__name__
    endpoint.__doc__ = handler.__doc__
    return endpoint


def _add_error_answers(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(ApiError)
    async def api_error(http: Request, error: ApiError) -> Response:
        metrics.request_failure.labels(error.code).inc()
        return error_answer(http.scope["path"], error)

    @app.exception_handler(ClientGoneError)
    async def client_gone(_: Request, error: ClientGoneError) -> Response:
        return Response(status_code=499)  # nobody reads it; the access log does

    @app.exception_handler(HTTPException)
    async def http_error(http: Request, error: HTTPException) -> Response:
        return _routing_error(http, error)

    @app.exception_handler(Exception)
    async def bug(http: Request, error: Exception) -> Response:
        return error_answer(http.scope["path"], internal_error())


def _routing_error(http: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        answer: ApiError = MethodNotAllowedError("This URL does not take this method.")
    else:
        answer = NotFoundError("There is no such route.")
    return error_answer(http.scope["path"], answer, error.headers)


def _add_middleware(app: FastAPI, settings: ServerSettings) -> None:
    """The last added is the outermost."""
    if settings.api_key:
        app.add_middleware(KeyCheck, keys=settings.api_key)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Api-Key", "X-Request-Id"],
        )
    app.add_middleware(RequestContext)


def _expose(metrics: Metrics, admission: Admission, prompts: PromptBuilder) -> None:
    metrics.gauge("requests_inside", "Requests admitted", lambda: admission.num_inside)
    metrics.gauge("admission_refusals", "Requests refused", lambda: admission.num_refused)
    metrics.gauge(
        "neutralised_control_tokens",
        "Control tokens that users typed and that stayed text",
        lambda: prompts.num_neutralised,
    )
