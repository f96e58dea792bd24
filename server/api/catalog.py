"""GET /v1/models, version, health and metrics: what the server is and how it fares."""

import time
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.engine.types import Engine
from server.errors import NotFoundError
from server.metrics import Metrics


class Catalog:
    def __init__(
        self, *, engine: Engine, metrics: Metrics, model_name: str, context_len: int
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._model_name = model_name
        self._context_len = context_len
        self._created = int(time.time())

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, request: Request) -> Response:
        if request.path_params["model"] != self._model_name:
            raise NotFoundError("There is no such model.", param="model", code="model_not_found")
        return JSONResponse(self._card())

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": version("internvl-server")})

    async def livez(self, _: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Requests are admitted and the worker made progress lately."""
        health = self._engine.health()
        if health.is_ready:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable", "reason": health.reason}, 503)

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.expose(), media_type="text/plain; version=0.0.4")

    def _card(self) -> dict[str, object]:
        is_ready = self._engine.health().is_ready
        max_model_len = self._engine.info.max_model_len if is_ready else self._context_len
        return {
            "id": self._model_name,
            "object": "model",
            "created": self._created,
            "owned_by": "internvl-server",
            "max_model_len": max_model_len,
            "input_modalities": ["text", "image", "video"],
        }
