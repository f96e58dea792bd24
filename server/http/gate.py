"""Who is let in, decided before a body is read. Plain ASGI."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.admission import Admission
from server.errors import ApiError
from server.http.paths import LATER_PATHS
from server.http.refusal import refuse
from server.lifecycle import Lifecycle, draining_error


class Gate:
    """Refuses what would be work when the house is full or closed, or the key has had its due.

    Every POST is work, but those that leave it for later. Whom it lets in is told, through
    `receive`, when the server stops.
    """

    def __init__(
        self,
        app: ASGIApp,
        admission: Admission,
        lifecycle: Lifecycle,
        on_refusal: Callable[[str], None],
    ) -> None:
        self._app = app
        self._admission = admission
        self._lifecycle = lifecycle
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return

        async def receive_until_stopped() -> Message:
            return await self._lifecycle.receive(receive)

        try:
            self._check(scope)
        except ApiError as error:
            await refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive_until_stopped, send)

    def _check(self, scope: Scope) -> None:
        if self._lifecycle.is_closed:
            self._on_refusal("draining")
            raise draining_error()
        if not scope["path"].startswith(LATER_PATHS):
            self._admission.knock(scope["state"]["key_id"])
