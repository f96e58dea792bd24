"""GET /v1/models, version, health and metrics: what the server is and how it fares."""

import time
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.api.parts import Parts
from server.errors import NotFoundError


class Catalog:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._created = int(time.time())

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, request: Request) -> Response:
        if request.path_params["model"] != self._parts.model_name:
            raise NotFoundError("There is no such model.", param="model", code="model_not_found")
        return JSONResponse(self._card())

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": version("internvl-server")})

    async def livez(self, _: Request) -> Response:
        """The process answers, and can serve or may yet do so: otherwise restart it."""
        health = self._parts.engine.health()
        if health.is_alive:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "dead", "reason": health.reason}, 503)

    async def readyz(self, _: Request) -> Response:
        """Requests are admitted and the worker made progress lately."""
        health = self._parts.engine.health()
        if health.is_ready:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable", "reason": health.reason}, 503)

    async def metrics(self, _: Request) -> Response:
        return Response(self._parts.metrics.expose(), media_type="text/plain; version=0.0.4")

    def _card(self) -> dict[str, object]:
        return {
            "id": self._parts.model_name,
            "object": "model",
            "created": self._created,
            "owned_by": "internvl-server",
            "max_model_len": self._parts.max_model_len,
            "input_modalities": ["text", "image", "video"],
        }
