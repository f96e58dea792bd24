"""The engine as the HTTP side sees it: a worker process behind streams.

Owns the requests that are owed an answer: what a worker worked on when it died ends with an error,
what it had not begun is sent to the next one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Set

from model_runtime.protocol import (
    AbortRequest,
    AddRequest,
    EngineConfig,
    StepOutput,
    StepStats,
    WorkerReady,
)
from server.engine.answer_text import AnswerText, Detokenizer
from server.engine.crashes import Quarantine
from server.engine.live_requests import LiveRequests
from server.engine.stream import EngineStream
from server.engine.supervisor import Supervisor
from server.engine.types import EngineCounts, EngineHealth, EngineInfo, GenerationRequest
from server.errors import (
    EngineCrashedError,
    EngineError,
    UnavailableError,
    too_late,
)
from server.prompt.stop_strings import StopStringMatcher

logger = logging.getLogger(__name__)


class WorkerEngine:
    """Implements `server.engine.types.Engine` with a worker process."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        model_id: str,
        make_detokenizer: Callable[[bool], Detokenizer],
        on_step: Callable[[StepStats], None] = lambda stats: None,
        stall_timeout_s: float = 60.0,
    ) -> None:
        """`make_detokenizer`: given whether special tokens stay unseen, one for an answer."""
        self._model_id = model_id
        self._make_detokenizer = make_detokenizer
        self._on_step = on_step
        self._live = LiveRequests()
        self._held_media: set[bytes] = set()  # content hashes that the worker need not be sent
        self._num_media = self._num_media_held = 0
        self._stats: StepStats | None = None
        self._quarantine = Quarantine()
        self._workers = Supervisor(
            config,
            stall_timeout_s,
            on_ready=self._send_what_waits,
            on_step=self._deliver,
            on_death=self._sort_out,
            on_end=self._end,
        )

    async def start(self) -> EngineInfo:
        """Start the worker and wait until the model is loaded. Raises WorkerLoadError."""
        return self._info(await self._workers.start())

    async def stop(self) -> None:
        """End the worker; streams that still run end with an error."""
        await self._workers.stop()

    @property
    def info(self) -> EngineInfo:
        """Raises UnavailableError while the worker is loading."""
        if self._workers.ready is None:
            raise self._not_ready()
        return self._info(self._workers.ready)

    def _info(self, ready: WorkerReady) -> EngineInfo:
        return EngineInfo(
            model_id=self._model_id,
            max_model_len=ready.max_model_len,
            device=ready.device,
            dtype=ready.dtype,
            model_impl=ready.model_impl,
            num_kv_tokens=ready.num_blocks * ready.block_size,
        )

    def health(self) -> EngineHealth:
        problem = self._workers.problem
        is_alive = not self._workers.has_given_up
        return EngineHealth(problem is None, problem, self._stats, is_alive)

    def counts(self) -> EngineCounts:
        return EngineCounts(self._workers.num_restarts, self._num_media, self._num_media_held)

    def _not_ready(self) -> UnavailableError:
        return UnavailableError(f"The server is not ready: {self._workers.problem}.")

    # ------------------------------------------------------------------ requests

    def submit(self, request: GenerationRequest) -> EngineStream:
        """Register the stream and send the request.

        Raises UnavailableError when not ready, QuarantinedError and DeadlineExceededError.
        """
        if self._workers.ready is None:
            raise self._not_ready()
        self._quarantine.check(request)
        timer = self._start_timer(request)
        answers = [self._answer_text(request, index) for index in range(request.n)]
        stream = EngineStream(request.request_id, answers, self._abort)
        self._live.add(request, stream, timer)
        self._count_media(request)
        self._workers.send(_add_request(request, without=self._held_media))
        return stream

    def _count_media(self, request: GenerationRequest) -> None:
        hashes = {span.content_hash for span in request.prompt.spans}
        self._num_media += len(hashes)
        self._num_media_held += len(hashes & self._held_media)

    def _start_timer(self, request: GenerationRequest) -> asyncio.TimerHandle | None:
        if request.deadline_s is None:
            return None
        seconds_left = request.deadline_s - time.monotonic()
        if seconds_left <= 0:
            raise too_late()
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds_left, self._expire, request.request_id)

    def _expire(self, request_id: str) -> None:
        self._live.fail(request_id, too_late())
        self._workers.send(AbortRequest(request_id))

    def _answer_text(self, request: GenerationRequest, index: int) -> AnswerText:
        include = request.include_stop_str_in_output
        matcher = StopStringMatcher(request.stop, include=include)
        detokenizer = self._make_detokenizer(request.skip_special_tokens)
        return AnswerText(index, detokenizer, matcher)

    def _abort(self, request_id: str, index: int | None) -> None:
        """Stop one of a request's answers, or the request."""
        is_live = self._live.remove(request_id) if index is None else request_id in self._live
        if is_live:
            self._workers.send(AbortRequest(request_id, index))

    # ------------------------------------------------------------------ the worker's news

    def _deliver(self, step: StepOutput) -> None:
        self._stats = step.stats
        self._tell(step.stats)
        self._held_media.update(step.encoded)
        self._held_media.difference_update(step.evicted)
        for request in self._live.unstarted(step.missing_tiles):  # dropped while it was on its way
            self._send_whole(request)
        for output in step.outputs:
            self._live.push(output)

    def _tell(self, stats: StepStats) -> None:
        try:
            self._on_step(stats)
        except Exception:  # whoever listens must not harm the requests
            logger.exception("a listener failed")

    def _send_what_waits(self) -> None:
        for request in self._live.unstarted():
            self._send_whole(request)

    def _send_whole(self, request: GenerationRequest) -> None:
        """With all its pixels."""
        self._workers.send(_add_request(request, without=frozenset()))

    def _sort_out(self, suspects: Set[str]) -> None:
        """A worker is gone. Requests without a token wait for the next one, once, but those that
        it may have died of do not."""
        self._held_media.clear()
        self._quarantine.record(self._live.unstarted(suspects))
        self._live.fail_what_a_crash_ends(
            suspects, EngineCrashedError("The engine stopped while it worked on this request.")
        )

    def _end(self) -> None:
        self._live.fail_all(EngineError("The engine stopped before it answered this request."))


def _add_request(request: GenerationRequest, without: Set[bytes]) -> AddRequest:
    """The message for the worker, `without` the pixels of media that it holds already."""
    return AddRequest(
        request_id=request.request_id,
        token_ids=request.prompt.token_ids,
        sampling=request.sampling,
        spans=request.prompt.spans,
        tiles=[t for t in request.prompt.tiles if t.content_hash not in without],
        priority=request.priority,
        n=request.n,
        grammar=request.grammar,
        cache_salt=request.cache_salt.encode("utf-8", "surrogatepass"),
    )
