"""Puts the HTTP side together: routes, middleware, error answers, start and stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from model_runtime.checkpoint import Checkpoint
from server.admission import Admission
from server.api.catalog import Catalog
from server.api.chat import ChatService
from server.api.connection import ClientGoneError
from server.api.schemas import ChatCompletionRequest
from server.api.tokenize import TokenizeService
from server.api.wire import error_body
from server.engine.types import Engine
from server.errors import ApiError, MethodNotAllowedError, NotFoundError, internal_error
from server.media.loader import MediaLoader
from server.metrics import Metrics
from server.middleware import KeyCheck, RequestContext
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings
from server.tracing import Tracer

logger = logging.getLogger(__name__)


def create_app(
    *,
    engine: Engine,
    media: MediaLoader,
    prompts: PromptBuilder,
    checkpoint: Checkpoint,
    settings: ServerSettings,
    metrics: Metrics,
    tracer: Tracer | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_load_failure: Callable[[Exception], None] = lambda error: None,
) -> FastAPI:
    """The application. The server listens while the model loads; `/readyz` tells when it is."""
    model_name = settings.served_model_name or checkpoint.model_id
    tracer = tracer or Tracer()
    admission = Admission(settings.max_num_seqs + settings.max_waiting_requests)
    _expose(metrics, admission, prompts)
    chat = ChatService(
        engine=engine,
        media=media,
        prompts=prompts,
        checkpoint=checkpoint,
        settings=settings,
        admission=admission,
        metrics=metrics,
        model_name=model_name,
    )
    tokenizing = TokenizeService(
        engine=engine,
        media=media,
        prompts=prompts,
        checkpoint=checkpoint,
        settings=settings,
        admission=admission,
        model_name=model_name,
    )
    catalog = Catalog(
        engine=engine,
        metrics=metrics,
        model_name=model_name,
        context_len=checkpoint.context_len,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await media.start()
        loading = asyncio.create_task(_load(engine, on_ready, on_load_failure))
        try:
            yield
        finally:
            loading.cancel()
            await engine.stop()
            await media.stop()
            await asyncio.to_thread(tracer.close)

    app = FastAPI(
        title="internvl-server",
        lifespan=lifespan,
        root_path=settings.root_path,
        redirect_slashes=False,
    )
    _add_routes(app, chat, tokenizing, catalog)
    _add_error_answers(app, metrics)
    _add_middleware(app, settings, tracer, model_name)
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
    app: FastAPI, chat: ChatService, tokenizing: TokenizeService, catalog: Catalog
) -> None:
    schema = ChatCompletionRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    app.add_api_route(
        "/v1/chat/completions",
        _plain(chat.handle),
        methods=["POST"],
        openapi_extra={"requestBody": body},
        summary="Answer a conversation with text, images and videos",
    )
    app.add_api_route("/tokenize", _plain(tokenizing.tokenize), methods=["POST"])
    app.add_api_route("/detokenize", _plain(tokenizing.detokenize), methods=["POST"])
    for path, handler in {
        "/version": catalog.version,
        "/v1/models": catalog.models,
        "/v1/models/{model:path}": catalog.model,
        "/livez": catalog.livez,
        "/readyz": catalog.readyz,
        "/health": catalog.readyz,
        "/metrics": catalog.metrics,
    }.items():
        app.add_api_route(path, _plain(handler), methods=["GET"])
    _document(app, definitions)


def _plain(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """A function that FastAPI takes for an endpoint of its own: it reads the annotation."""

    async def endpoint(request: Request) -> Response:
        return await handler(request)

    endpoint.__name__ = handler.__name__
    endpoint.__doc__ = handler.__doc__
    return endpoint


def _document(app: FastAPI, definitions: dict[str, Any]) -> None:
    """Put the request's types into the OpenAPI document."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_error_answers(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        request.state.facts["error"] = error.code
        metrics.request_failure.labels(error.code).inc()
        return JSONResponse(error_body(error), error.status, error.headers)

    @app.exception_handler(ClientGoneError)
    async def client_gone(_: Request, error: ClientGoneError) -> Response:
        return Response(status_code=499)  # nobody reads it; the access log does

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return _routing_error(error)

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        return JSONResponse(error_body(internal_error()), 500)


def _routing_error(error: HTTPException) -> Response:
    if error.status_code == 405:
        answer: ApiError = MethodNotAllowedError("This URL does not take this method.")
    else:
        answer = NotFoundError("There is no such route.")
    return JSONResponse(error_body(answer), error.status_code, error.headers)


def _add_middleware(
    app: FastAPI, settings: ServerSettings, tracer: Tracer, model_name: str
) -> None:
    """The last added is the outermost."""
    if settings.api_key:
        app.add_middleware(KeyCheck, keys=settings.api_key)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
        )
    app.add_middleware(RequestContext, tracer=tracer, model_name=model_name)


def _expose(metrics: Metrics, admission: Admission, prompts: PromptBuilder) -> None:
    metrics.gauge("requests_inside", "Requests admitted", lambda: admission.num_inside)
    metrics.gauge("admission_refusals", "Requests refused", lambda: admission.num_refused)
    metrics.gauge(
        "neutralised_control_tokens",
        "Control tokens that users typed and that stayed text",
        lambda: prompts.num_neutralised,
    )
