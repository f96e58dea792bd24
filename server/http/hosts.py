"""Which names this server answers to. Plain ASGI.

A web page may give its own name the address 127.0.0.1 and so talk to a server on the visitor's
machine (DNS rebinding). The browser then sends the page's name as the Host.
"""

from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import InvalidRequestError
from server.http.head import values_of
from server.http.refusal import refuse


class HostCheck:
    """Refuses names other than loopback's own and `allowed`."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = values_of(scope["headers"], b"host") if scope["type"] == "http" else []
        if all(self._is_ours(host.decode("latin-1")) for host in hosts):
            await self._app(scope, receive, send)
        else:
            error = InvalidRequestError(
                "This server does not go by this Host. Its operator can add it: --allowed-hosts."
            )
            await refuse(error, scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        name = name.lower().removesuffix(".")
        return name in self._allowed or name == "localhost" or _is_loopback(name.strip("[]"))


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
