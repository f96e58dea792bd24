"""Runs batches beside the live traffic: every line once, results kept as they come.

A server that is killed goes on at its next start with the lines that have no result.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Any

from server.batches.database import Database
from server.batches.lines import answered, find_problems, not_run, raw_lines, read_line
from server.batches.store import BatchStore
from server.batches.types import Batch, Ending, Line, LineAnswer, LineResult, Status

logger = logging.getLogger(__name__)
_NUM_TOGETHER = 500  # results of lines that were not run
_NOT_RUN = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was done."),
    "expired": ("batch_expired", "The batch expired before this request was done."),
}

Execute = Callable[[str, bytes], Awaitable[LineAnswer]]  # (endpoint, body)


class BatchRunner:
    """Owns the batches that are not finished; all of them share `max_lines` lines at a time.

    `execute` never fails: what is wrong with a line is its answer.
    """

    def __init__(
        self, store: BatchStore, execute: Execute, *, max_lines: int, max_line_bytes: int
    ) -> None:
        self._store = store
        self._execute = execute
        self._seats = asyncio.Semaphore(max_lines)
        self._max_line_bytes = max_line_bytes
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, asyncio.Event] = {}

    async def start(self) -> None:
        for batch_id in await self._store.do(Database.unfinished_ids):
            self.add(batch_id)

    async def stop(self) -> None:
        """Lines under way are given up; they have no result yet."""
        for task in list(self._tasks.values()):
            await _cancelled(task)

    @property
    def num_unfinished(self) -> int:
        return len(self._tasks)

    def add(self, batch_id: str) -> None:
        self._stops[batch_id] = asyncio.Event()
        task = asyncio.create_task(self._run(batch_id), name=batch_id)
        self._tasks[batch_id] = task
        task.add_done_callback(lambda _: self._forget(batch_id))

    def cancel(self, batch_id: str) -> None:
        """The batch has the status `cancelling`."""
        if stop := self._stops.get(batch_id):
            stop.set()

    def _forget(self, batch_id: str) -> None:
        del self._tasks[batch_id], self._stops[batch_id]

    async def _run(self, batch_id: str) -> None:
        try:
            await self._run_to_the_end(batch_id)
        except Exception:  # a full disk, or a bug: it is tried again at the next start
            logger.exception("batch %s cannot go on", batch_id)

    async def _run_to_the_end(self, batch_id: str) -> None:
        """Whatever its status is, to one that stays."""
        batch = await self._batch(batch_id)
        if batch.status in ("validating", "in_progress"):
            await self._work_until_stopped(batch)
            batch = await self._batch(batch_id)
        if batch.status == "finalizing":
            await self._store.finish(batch_id, ("finalizing",), "completed")
        elif batch.status == "cancelling":
            await self._give_up(batch, "cancelled")
        elif batch.status != "failed":
            await self._give_up(batch, "expired")
        logger.info("batch %s ended: %s", batch_id, (await self._batch(batch_id)).status)

    async def _work_until_stopped(self, batch: Batch) -> None:
        """Until it is done, cancelled, or too old."""
        work = asyncio.create_task(self._work(batch))
        stop = asyncio.create_task(self._stops[batch.id].wait())
        try:
            await asyncio.wait(
                (work, stop),
                timeout=max(0.0, batch.expires_at - time.time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                work.result()
        finally:
            await _cancelled(work)
            await _cancelled(stop)

    async def _work(self, batch: Batch) -> None:
        if batch.status == "validating" and not await self._validate(batch):
            return
        done = await self._store.do(Database.finished_lines, batch.id)
        async with asyncio.TaskGroup() as group, aclosing(self._lines(batch, done)) as lines:
            while await self._start_next(group, batch, lines):
                pass
        await self._store.do(Database.move, batch.id, ("in_progress",), "finalizing")

    async def _validate(self, batch: Batch) -> bool:
        file = await self._store.do(Database.file, batch.input_file_id)
        assert file is not None, "a file in use is not removed. This is a bug."
        problems, num_lines = await asyncio.to_thread(
            find_problems, self._store.path(file), batch.endpoint, self._max_line_bytes
        )
        after: Status = "failed" if problems else "in_progress"
        total = 0 if problems else num_lines
        changes = {"problems": [asdict(problem) for problem in problems], "total": total}
        is_moved = await self._store.do(Database.move, batch.id, ("validating",), after, changes)
        return is_moved and not problems

    async def _start_next(
        self, group: asyncio.TaskGroup, batch: Batch, lines: AsyncGenerator[tuple[int, Line], None]
    ) -> bool:
        """The line takes a seat before it is read, and gives it back. False: there was none."""
        await self._seats.acquire()
        item: tuple[int, Line] | None = None
        try:
            item = await anext(lines, None)
        finally:
            if item is None:
                self._seats.release()
        if item is None:
            return False
        task = group.create_task(self._run_line(batch, *item))
        task.add_done_callback(lambda _: self._seats.release())
        return True

    async def _run_line(self, batch: Batch, place: int, line: Line) -> None:
        answer = await self._execute(batch.endpoint, bytes(line.body))
        await self._store.do(Database.add_results, batch.id, [answered(place, line, answer)])

    async def _give_up(self, batch: Batch, ending: Ending) -> None:
        """Lines without a result get one that says why."""
        if batch.total:
            await self._tell_not_run(batch, *_NOT_RUN[ending])
        await self._store.finish(batch.id, ("validating", "in_progress", "cancelling"), ending)

    async def _tell_not_run(self, batch: Batch, code: str, message: str) -> None:
        done = await self._store.do(Database.finished_lines, batch.id)
        results: list[LineResult] = []
        async with aclosing(self._lines(batch, done)) as lines:
            async for place, line in lines:
                results.append(not_run(place, line, code, message))
                if len(results) == _NUM_TOGETHER:
                    await self._store.do(Database.add_results, batch.id, results)
                    results = []
        await self._store.do(Database.add_results, batch.id, results)

    async def _lines(self, batch: Batch, done: set[int]) -> AsyncGenerator[tuple[int, Line], None]:
        """Those that have no result yet; one in memory at a time."""
        file = await self._store.do(Database.file, batch.input_file_id)
        assert file is not None, "a file in use is not removed. This is a bug."
        lines = raw_lines(self._store.path(file), self._max_line_bytes)
        while (item := await asyncio.to_thread(next, lines, None)) is not None:
            place, raw = item
            if place not in done:
                yield place, read_line(raw)

    async def _batch(self, batch_id: str) -> Batch:
        batch = await self._store.do(Database.batch, batch_id)
        assert batch is not None, "batches are never removed. This is a bug."
        return batch


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task
