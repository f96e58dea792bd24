"""What is learnt from workers that die: how often it happens, and over which requests.

Nothing here knows processes; it keeps the books by the front end's clock.
"""

import hashlib
import time
from collections.abc import Iterable

import msgspec

from server.engine.types import GenerationRequest
from server.errors import QuarantinedError

MAX_CRASHES = 3
CRASH_WINDOW_S = 600.0
QUARANTINE_S = 3600.0


class CrashLog:
    """When workers died. Too many in a short time mean that another one would not help."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def record(self) -> None:
        now = time.monotonic()
        self._times = [t for t in self._times if now - t < CRASH_WINDOW_S] + [now]

    @property
    def are_too_many(self) -> bool:
        return len(self._times) >= MAX_CRASHES

    @property
    def delay_s(self) -> float:
        """How long to wait before the next start: 1, 2, ... seconds."""
        return float(1 << max(0, len(self._times) - 1))


class Quarantine:
    """Media and prompts that were being computed when a worker died, and died again.

    The second time makes them refused for an hour: a client's retries cannot take the service down.
    """

    def __init__(self) -> None:
        self._suspected: dict[bytes, float] = {}  # when last
        self._refused: dict[bytes, float] = {}  # until when

    def record(self, requests: Iterable[GenerationRequest]) -> None:
        """A worker died over one of these."""
        now = time.monotonic()
        self._suspected = {k: t for k, t in self._suspected.items() if now - t < QUARANTINE_S}
        self._refused = {k: until for k, until in self._refused.items() if now < until}
        traits = {trait for request in requests for trait in _traits(request)}
        self._refused |= {t: now + QUARANTINE_S for t in traits if t in self._suspected}
        self._suspected |= dict.fromkeys(traits, now)

    def check(self, request: GenerationRequest) -> None:
        """Raises QuarantinedError. Costs nothing while no worker has died twice."""
        if not self._refused:
            return
        now = time.monotonic()
        if any(now < self._refused.get(trait, now) for trait in _traits(request)):
            raise QuarantinedError(
                "This request, or a picture in it, has stopped the engine twice. It is refused "
                "for an hour."
            )


def _traits(request: GenerationRequest) -> set[bytes]:
    """What a request may share with the next one that is as bad: each medium, and the whole."""
    whole = (request.prompt.token_ids, request.prompt.spans, request.sampling, request.grammar)
    digest = hashlib.sha256(msgspec.msgpack.encode(whole)).digest()
    return {span.content_hash for span in request.prompt.spans} | {digest}
