"""Puts the HTTP side together: routes, middleware, error answers, start and stop."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from model_runtime.checkpoint import Checkpoint
from server.admission import Admission
from server.api.answering import Answering
from server.api.completions.prepare import CompletionPreparation
from server.api.connection import ClientGoneError
from server.api.document import document
from server.api.error_answers import error_answer
from server.api.parts import Parts
from server.api.prepare import ChatPreparation
from server.api.responses.service import ResponsesService
from server.api.routes import add_more_routes, add_routes, batch_house
from server.engine.types import Engine
from server.errors import ApiError, MethodNotAllowedError, NotFoundError, internal_error
from server.http.bodies import BodyBudget
from server.http.context import RequestContext
from server.http.gate import Gate
from server.http.hosts import HostCheck
from server.http.keys import KeyCheck
from server.lifecycle import Lifecycle, State
from server.loop_lag import LoopLag
from server.media.loader import MediaLoader
from server.metrics import Metrics
from server.page import add_page
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings
from server.tracing import Tracer

logger = logging.getLogger(__name__)
QUEUE_FACTOR = 4  # times what the KV cache holds


def create_app(
    *,
    engine: Engine,
    media: MediaLoader,
    prompts: PromptBuilder,
    checkpoint: Checkpoint,
    settings: ServerSettings,
    metrics: Metrics,
    lifecycle: Lifecycle | None = None,
    tracer: Tracer | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_load_failure: Callable[[Exception], None] = lambda error: None,
) -> FastAPI:
    """The application. The server listens while the model loads; `/readyz` tells when it is."""
    model_name = settings.served_model_name or checkpoint.model_id
    lifecycle = lifecycle or Lifecycle()
    on_refusal = _refusal_counter(metrics)
    max_requests = settings.max_num_seqs + settings.max_waiting_requests
    admission = Admission(max_requests, settings.quotas(), on_refusal, lambda: _most_tokens(engine))
    lag = LoopLag(metrics.registry)
    tracer = tracer or Tracer()
    _expose(metrics, admission, prompts, engine)
    parts = Parts(
        engine=engine,
        media=media,
        prompts=prompts,
        checkpoint=checkpoint,
        settings=settings,
        admission=admission,
        metrics=metrics,
        tracer=tracer,
        model_name=model_name,
    )
    answering, preparation = Answering(parts), ChatPreparation(parts)
    completing = CompletionPreparation(parts)
    responses = ResponsesService(parts, answering, preparation)
    house = batch_house(parts, answering, preparation, completing, responses)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await house.start()  # first: the folder may be another server's
        await media.start()
        loading = asyncio.create_task(_load(engine, lifecycle, on_ready, on_load_failure))
        measuring = asyncio.create_task(lag.measure())
        try:
            yield
        finally:
            loading.cancel()
            measuring.cancel()
            await house.stop()  # before the engine: a line that it ends is no failed line
            await engine.stop()
            await media.stop()
            await asyncio.to_thread(tracer.close)

    app = FastAPI(
        title="internvl-server",
        lifespan=lifespan,
        root_path=settings.root_path,
        redirect_slashes=False,
    )
    add_routes(app, parts, answering, preparation, responses, lifecycle)
    add_more_routes(app, parts, answering, completing, house)
    if not settings.no_ui:
        add_page(app)
    document(app)
    _add_error_answers(app, metrics)
    app.add_middleware(Gate, admission=admission, lifecycle=lifecycle, on_refusal=on_refusal)
    app.add_middleware(
        BodyBudget, max_bytes=settings.max_inflight_body_bytes, on_refusal=on_refusal
    )
    _add_middleware(app, settings, tracer, model_name)
    return app


async def _load(
    engine: Engine,
    lifecycle: Lifecycle,
    on_ready: Callable[[], None],
    on_failure: Callable[[Exception], None],
) -> None:
    try:
        await engine.start()
    except Exception as error:
        on_failure(error)
    else:
        lifecycle.advance(State.SERVING)
        on_ready()


def _add_error_answers(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(ApiError)
    async def api_error(http: Request, error: ApiError) -> Response:
        http.state.facts["error"] = error.code
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
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Api-Key", "X-Request-Id"],
        )
    if (settings.is_loopback or settings.allowed_hosts) and "*" not in settings.allowed_hosts:
        app.add_middleware(HostCheck, allowed=settings.allowed_hosts)
    app.add_middleware(RequestContext, tracer=tracer, model_name=model_name)


def _most_tokens(engine: Engine) -> float:
    """Inside at a time, computed or waiting."""
    return QUEUE_FACTOR * engine.info.num_kv_tokens if engine.health().is_ready else math.inf


def _expose(metrics: Metrics, admission: Admission, prompts: PromptBuilder, engine: Engine) -> None:
    metrics.watch(engine.counts)
    metrics.gauge("tokens_inside", "Tokens reserved", lambda: admission.num_tokens)
    metrics.gauge("requests_inside", "Requests admitted", lambda: admission.num_inside)
    metrics.gauge(
        "neutralised_control_tokens",
        "Control tokens that users typed and that stayed text",
        lambda: prompts.num_neutralised,
    )


def _refusal_counter(metrics: Metrics) -> Callable[[str], None]:
    refusals = Counter(
        "internvl:admission_refusals",
        "Requests refused before any work, by reason",
        ["reason"],
        registry=metrics.registry,
    )
    return lambda reason: refusals.labels(reason).inc()
