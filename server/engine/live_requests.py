"""The requests that are owed an answer: their streams, their deadlines, and what is needed to send
them again."""

import asyncio
from collections.abc import Iterable, Set
from dataclasses import dataclass

from model_runtime.protocol import SequenceOutput
from server.engine.stream import EngineStream
from server.engine.types import GenerationRequest
from server.errors import ApiError


@dataclass(slots=True)
class _Live:
    stream: EngineStream
    unstarted: GenerationRequest | None  # until its first token: it may have to be sent again
    timer: asyncio.TimerHandle | None  # of its deadline
    has_seen_a_crash: bool = False


class LiveRequests:
    """By request id. Owned by the event loop; no request leaves without an answer."""

    def __init__(self) -> None:
        self._live: dict[str, _Live] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._live

    def add(
        self, request: GenerationRequest, stream: EngineStream, timer: asyncio.TimerHandle | None
    ) -> None:
        assert request.request_id not in self._live, "request ids are unique. This is a bug."
        self._live[request.request_id] = _Live(stream, request, timer)

    def push(self, output: SequenceOutput) -> None:
        """Unknown ids are those that were aborted a moment ago."""
        live = self._live.get(output.request_id)
        if live is None:
            return
        live.unstarted = None
        live.stream.push(output)
        if live.stream.is_complete:
            self.remove(output.request_id)

    def remove(self, request_id: str) -> bool:
        """Nothing is owed any more. False: it was not there."""
        live = self._live.pop(request_id, None)
        if live is not None and live.timer is not None:
            live.timer.cancel()
        return live is not None

    def fail(self, request_id: str, failure: ApiError) -> None:
        live = self._live[request_id]
        self.remove(request_id)
        live.stream.fail(failure)

    def fail_all(self, failure: ApiError) -> None:
        for request_id in list(self._live):
            self.fail(request_id, failure)

    def unstarted(self, request_ids: Iterable[str] | None = None) -> list[GenerationRequest]:
        """Those without a token, in the order of their arrival; of `request_ids` if given."""
        ids = self._live if request_ids is None else [i for i in request_ids if i in self._live]
        found = [self._live[request_id].unstarted for request_id in ids]
        return [request for request in found if request is not None]

    def fail_what_a_crash_ends(self, suspects: Set[str], failure: ApiError) -> None:
        """Kept, for the next worker: whoever has no token, is no suspect, and has not been sent
        again before."""
        for request_id, live in list(self._live.items()):
            is_begun = live.unstarted is None
            if is_begun or live.has_seen_a_crash or request_id in suspects:
                self.fail(request_id, failure)
            live.has_seen_a_crash = True
