"""Keeps a worker process running: starts it, watches its pulse, replaces it when it dies.

Knows processes and how often they died; knows nothing of requests but the names of suspects.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from model_runtime.protocol import EngineConfig, FromWorker, StepOutput, WorkerFailed, WorkerReady
from server.engine.crashes import CrashLog
from server.engine.watchdog import LOOK_INTERVAL_S, Watchdog
from server.engine.worker_process import WorkerProcess

logger = logging.getLogger(__name__)


class WorkerLoadError(Exception):
    """No worker could be brought to serve the model; the message says why."""


class Supervisor:
    """One worker after another, until `stop`, or until another one would not help."""

    def __init__(
        self,
        config: EngineConfig,
        stall_timeout_s: float,
        *,
        on_ready: Callable[[], None],
        on_step: Callable[[StepOutput], None],
        on_death: Callable[[frozenset[str]], None],
        on_end: Callable[[], None],
    ) -> None:
        """`on_death` is given the requests that the worker may have died of; `on_end`: no worker
        will come after it."""
        self._config = config
        self._stall_timeout_s = stall_timeout_s
        self._on_ready = on_ready
        self._on_step = on_step
        self._on_death = on_death
        self._on_end = on_end
        self._worker: WorkerProcess | None = None
        self._watchdog: Watchdog | None = None  # while there is a ready worker
        self._crashes = CrashLog()
        self._task: asyncio.Task[None] | None = None
        self.ready: WorkerReady | None = None  # what the worker said, while it is there
        self.num_restarts = 0
        self.has_given_up = False

    async def start(self) -> WorkerReady:
        """Start the worker and wait until the model is loaded. Raises WorkerLoadError."""
        first_ready: asyncio.Future[WorkerReady] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(first_ready), name="engine")
        return await first_ready

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def send(self, message: msgspec.Struct) -> None:
        """Never blocks; dropped when there is no worker."""
        if self._worker is not None:
            self._worker.send(message)

    @property
    def pid(self) -> int | None:
        return self._worker.pid if self._worker is not None else None

    @property
    def problem(self) -> str | None:
        """Why nothing should be sent now, in words for everybody."""
        if self.has_given_up:
            return "the engine died too often and stays down"
        if self._watchdog is None:
            return "loading the model"
        return "the worker is stalled" if self._watchdog.is_doubtful else None

    # ------------------------------------------------------------------ lives and deaths

    async def _supervise(self, first_ready: asyncio.Future[WorkerReady]) -> None:
        try:
            await self._run_workers(first_ready)
        except WorkerLoadError as error:
            logger.critical("no worker is started any more: %s", error)
            self.has_given_up = True
            if not first_ready.done():
                first_ready.set_exception(error)
        finally:
            self._on_end()

    async def _run_workers(self, first_ready: asyncio.Future[WorkerReady]) -> None:
        """Raises WorkerLoadError when that leads nowhere."""
        while True:
            try:
                await self._run_worker(first_ready)
            except WorkerLoadError as error:
                if not first_ready.done():  # it never loaded, and tells what to mend
                    raise
                logger.error("the model could not be loaded again: %s", error)
            except Exception:
                logger.exception("the link to the worker failed")
            self._crashes.record()
            if self._crashes.are_too_many:
                raise WorkerLoadError("The worker died three times within ten minutes.")
            self.num_restarts += 1
            logger.error("the worker died and is started again")
            await asyncio.sleep(self._crashes.delay_s)

    async def _run_worker(self, first_ready: asyncio.Future[WorkerReady]) -> None:
        """From start to death of one worker."""
        worker = self._worker = await WorkerProcess.start(self._config)
        watch = asyncio.create_task(self._watch(worker), name="watchdog")
        try:
            async for message in worker.messages():
                self._handle(message, worker)
                if self.ready is not None and not first_ready.done():
                    first_ready.set_result(self.ready)
        finally:
            watch.cancel()
            self._worker = self.ready = self._watchdog = None
            self._on_death(worker.pulse.blamed)
            await worker.stop()

    def _handle(self, message: FromWorker, worker: WorkerProcess) -> None:
        if isinstance(message, StepOutput):
            assert self._watchdog is not None, "a step before the model. This is a bug."
            self._watchdog.on_step(message.stats.step_time_s)
            self._on_step(message)
        elif isinstance(message, WorkerReady):
            logger.info("the worker is ready after %.1f s", message.load_time_s)
            self.ready = message
            self._watchdog = Watchdog(worker.pulse, self._stall_timeout_s)
            self._on_ready()
        elif isinstance(message, WorkerFailed):
            raise WorkerLoadError(message.message)

    async def _watch(self, worker: WorkerProcess) -> None:
        """Kill the worker when it is stuck. Loading is not watched: it takes what it takes."""
        while self._watchdog is None or not self._watchdog.is_stalled:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if self._watchdog is not None:
                self._watchdog.look()
        logger.error("the worker shows no progress for %.0f s: killed", self._watchdog.silence_s)
        worker.kill()
