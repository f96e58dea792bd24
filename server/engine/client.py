"""The engine as the HTTP side sees it: a worker process behind streams.

Owns the live streams by request id and the worker's life: when it dies, every stream ends
with an error and a new worker is started.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Set
from contextlib import suppress

from model_runtime.protocol import (
    AbortRequest,
    AddRequest,
    EngineConfig,
    FromWorker,
    StepOutput,
    StepStats,
    WorkerFailed,
    WorkerReady,
)
from server.engine.answer_text import AnswerText, Detokenizer
from server.engine.stream import EngineStream
from server.engine.types import EngineHealth, EngineInfo, GenerationRequest
from server.engine.worker_process import WorkerProcess
from server.errors import EngineError, UnavailableError
from server.prompt.stop_strings import StopStringMatcher

logger = logging.getLogger(__name__)
STALL_TIMEOUT_S = 120.0  # requests in flight and no step for so long: not ready
RESTART_DELAY_S = 1.0


class WorkerLoadError(Exception):
    """The worker could not load the model; the message says why."""


class WorkerEngine:
    """Implements `server.engine.types.Engine` with a worker process."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        model_id: str,
        make_detokenizer: Callable[[bool], Detokenizer],
        on_step: Callable[[StepStats], None] = lambda stats: None,
    ) -> None:
        """`make_detokenizer`: given whether special tokens stay unseen, one for an answer."""
        self._config = config
        self._model_id = model_id
        self._make_detokenizer = make_detokenizer
        self._on_step = on_step
        self._streams: dict[str, EngineStream] = {}
        self._unstarted: dict[str, GenerationRequest] = {}  # no token yet: may be sent again
        self._suspects: set[str] = set()  # of them, those that saw a worker die
        self._held_media: set[bytes] = set()  # content hashes that the worker need not be sent
        self._worker: WorkerProcess | None = None
        self._ready: WorkerReady | None = None
        self._stats: StepStats | None = None
        self._last_progress = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self.num_restarts = 0

    # ------------------------------------------------------------------ life

    async def start(self) -> EngineInfo:
        """Start the worker and wait until the model is loaded. Raises WorkerLoadError."""
        first_ready: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(first_ready), name="engine")
        return await first_ready

    async def stop(self) -> None:
        """End the worker; streams that still run end with an error."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _supervise(self, first_ready: asyncio.Future[EngineInfo]) -> None:
        """One worker after another, until cancelled or until loading fails for good."""
        try:
            while True:
                await self._run_worker(first_ready)
                self.num_restarts += 1
                logger.error("the worker died and is started again")
                await asyncio.sleep(RESTART_DELAY_S)
        except WorkerLoadError as error:
            logger.error("the model could not be loaded: %s", error)
            if not first_ready.done():
                first_ready.set_exception(error)
        finally:
            self._fail(set(self._streams))

    async def _run_worker(self, first_ready: asyncio.Future[EngineInfo]) -> None:
        """From start to death of one worker."""
        self._worker = await WorkerProcess.start(self._config)
        try:
            async for message in self._worker.messages():
                self._handle(message)
                if self._ready is not None and not first_ready.done():
                    first_ready.set_result(self.info)
            if not first_ready.done():
                raise WorkerLoadError("The worker ended while it was loading the model.")
        finally:
            worker, self._worker, self._ready = self._worker, None, None
            self._fail_begun()
            await worker.stop()

    # ------------------------------------------------------------------ requests

    @property
    def info(self) -> EngineInfo:
        """Raises UnavailableError while the worker is loading."""
        if self._ready is None:
            raise UnavailableError("The model is loading. Try again in a moment.")
        return EngineInfo(
            model_id=self._model_id,
            max_model_len=self._ready.max_model_len,
            device=self._ready.device,
            dtype=self._ready.dtype,
            model_impl=self._ready.model_impl,
        )

    def submit(self, request: GenerationRequest) -> EngineStream:
        """Register the stream and send the request. Raises UnavailableError when not ready."""
        if self._worker is None or self._ready is None:
            raise UnavailableError("The model is loading. Try again in a moment.")
        assert request.request_id not in self._streams, "request ids are unique. This is a bug."
        if not self._streams:
            self._last_progress = time.monotonic()
        answers = [self._answer_text(request, index) for index in range(request.n)]
        stream = EngineStream(request.request_id, answers, self._abort)
        self._streams[request.request_id] = stream
        self._unstarted[request.request_id] = request
        self._worker.send(_add_request(request, without=self._held_media))
        return stream

    def _answer_text(self, request: GenerationRequest, index: int) -> AnswerText:
        include = request.include_stop_str_in_output
        matcher = StopStringMatcher(request.stop, include=include)
        detokenizer = self._make_detokenizer(request.skip_special_tokens)
        return AnswerText(index, detokenizer, matcher)

    def health(self) -> EngineHealth:
        if self._ready is None:
            return EngineHealth(is_ready=False, reason="loading the model", stats=self._stats)
        if self._streams and time.monotonic() - self._last_progress > STALL_TIMEOUT_S:
            return EngineHealth(is_ready=False, reason="the worker is stalled", stats=self._stats)
        return EngineHealth(is_ready=True, reason=None, stats=self._stats)

    def _abort(self, request_id: str, index: int | None) -> None:
        """Stop one of a request's answers, or the request."""
        if index is None:
            self._unstarted.pop(request_id, None)
            is_live = self._streams.pop(request_id, None) is not None
        else:
            is_live = request_id in self._streams
        if is_live and self._worker is not None:
            self._worker.send(AbortRequest(request_id, index))

    # ------------------------------------------------------------------ messages

    def _handle(self, message: FromWorker) -> None:
        if isinstance(message, StepOutput):
            self._deliver(message)
        elif isinstance(message, WorkerReady):
            self._ready = message
            logger.info("the worker is ready: %s", message)
            self._last_progress = time.monotonic()
            self._send_again(list(self._unstarted))
        elif isinstance(message, WorkerFailed):
            raise WorkerLoadError(message.message)

    def _deliver(self, step: StepOutput) -> None:
        self._last_progress = time.monotonic()
        self._stats = step.stats
        self._on_step(step.stats)
        self._held_media.update(step.encoded)
        self._held_media.difference_update(step.evicted)
        self._send_again(step.missing_tiles)
        for output in step.outputs:
            self._unstarted.pop(output.request_id, None)
            stream = self._streams.get(output.request_id)
            if stream is None:  # aborted a moment ago
                continue
            stream.push(output)
            if stream.is_complete:
                del self._streams[output.request_id]

    def _send_again(self, request_ids: list[str]) -> None:
        """With all their pixels: the worker dropped embeddings while a request that counted on
        them was on its way, or it is a new one."""
        for request_id in request_ids:
            request = self._unstarted.get(request_id)
            if request is not None and self._worker is not None:  # not aborted a moment ago
                self._worker.send(_add_request(request, without=frozenset()))

    def _fail_begun(self) -> None:
        """A worker is gone. Requests without a token wait for the next one, once: whatever sees
        a second worker die may be what kills them."""
        self._held_media.clear()
        waiting = self._unstarted.keys() - self._suspects
        self._fail(self._streams.keys() - waiting)
        self._suspects = set(waiting)

    def _fail(self, request_ids: Set[str]) -> None:
        """No request ends without an answer."""
        for request_id in request_ids:
            self._unstarted.pop(request_id, None)
            stream = self._streams.pop(request_id)
            stream.fail(EngineError("The engine stopped while it worked on this request."))


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
