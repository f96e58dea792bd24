"""Who may ask: the API keys. Plain ASGI."""

import hashlib
import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import AuthenticationError
from server.http.head import values_of
from server.http.paths import OPEN_PATHS, PAGE_FILES, PAGE_PATH
from server.http.refusal import refuse


class KeyCheck:
    """Every route but health, metrics and the web page's files needs one of the keys.

    As `Authorization: Bearer`, OpenAI's way, or as `x-api-key`, Anthropic's, on every route alike:
    a rule by path would be one more thing to get around. Who is known gets a `key_id` in the
    request's state, from which the key cannot be read back; it is not for logs either, since a
    weak key could be guessed from it.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]) or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
        elif digest := self._known(scope):
            scope["state"]["key_id"] = digest.hex()
            await self._app(scope, receive, send)
        else:
            error = AuthenticationError("Send a valid key: Authorization: Bearer YOUR_KEY.")
            await refuse(error, scope, receive, send)

    def _known(self, scope: Scope) -> bytes | None:
        """Digests of equal length, all compared: time tells nothing about the keys."""
        bearers = values_of(scope["headers"], b"authorization")
        plain = values_of(scope["headers"], b"x-api-key")
        if len(bearers) > 1 or len(plain) > 1:
            return None
        shown = {_digest(key) for key in [*map(_bearer_key, bearers), *plain]}
        if len(shown) != 1:  # none, or two that differ
            return None
        digest = shown.pop()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest if any(matches) else None


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path == PAGE_PATH or path.startswith(PAGE_FILES)


def _bearer_key(value: bytes) -> bytes:
    """Empty, which is no key, when the scheme is another."""
    scheme, _, key = value.partition(b" ")
    return key if scheme.lower() == b"bearer" else b""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
