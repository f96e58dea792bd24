"""The folder of batches: a database, and files by ids that only we make. Off the event loop.

One thread does all of it, in the order of the calls.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, Concatenate, ParamSpec, TypeVar

from server.batches.database import Database
from server.batches.types import Ending, Status, StoredFile

P = ParamSpec("P")
T = TypeVar("T")
_PARTIAL = ".partial"


class BatchStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = folder / "files"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._opened: Database | None = None

    async def start(self) -> None:
        """Raises DatabaseBusyError, OSError."""
        await self._in_thread(self._open)

    async def stop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await self._in_thread(opened.close)
        self._thread.shutdown()

    async def do(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **options: P.kwargs
    ) -> T:
        """One of the database's methods."""
        return await self._in_thread(partial(work, self._database, *args, **options))

    def path(self, file: StoredFile) -> Path:
        return self._files / file.id

    async def add(self, source: BinaryIO, filename: str, purpose: str) -> StoredFile:
        """Keep a copy of `source`, durably."""
        return await self._in_thread(partial(self._add, source, filename, purpose))

    async def remove(self, file: StoredFile) -> bool:
        """False: a batch that is not finished reads it."""
        is_removed = await self.do(Database.remove_file, file.id)
        if is_removed:
            await self._in_thread(partial(self.path(file).unlink, missing_ok=True))
        return is_removed

    async def finish(self, batch_id: str, before: tuple[Status, ...], ending: Ending) -> None:
        """Write the results into the files for the client."""
        await self._in_thread(partial(self._finish, batch_id, before, ending))

    # ------------------------------------------------------------------ in the thread

    @property
    def _database(self) -> Database:
        assert self._opened is not None, "start comes first. This is a bug."
        return self._opened

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        """What a killed server left half-written is thrown away."""
        self._files.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._opened = Database(self._folder / "batches.sqlite3")
        known = self._opened.file_ids()
        for path in self._files.iterdir():
            if path.name not in known:
                path.unlink()

    def _add(self, source: BinaryIO, filename: str, purpose: str) -> StoredFile:
        source.seek(0)
        file = self._write(iter(lambda: source.read(1 << 20), b""), filename, purpose)
        self._database.add_file(file)
        return file

    def _finish(self, batch_id: str, before: tuple[Status, ...], ending: Ending) -> None:
        files = [self._write_results(batch_id, is_error=is_error) for is_error in (False, True)]
        self._database.finish(batch_id, before, ending, *files)

    def _write_results(self, batch_id: str, *, is_error: bool) -> StoredFile | None:
        """None: there are none."""
        lines = (line + b"\n" for line in self._database.results(batch_id, is_error=is_error))
        name = f"{batch_id}_{'error' if is_error else 'output'}.jsonl"
        file = self._write(lines, name, "batch_output")
        if not file.num_bytes:
            self.path(file).unlink()
            return None
        return file

    def _write(self, chunks: Iterable[bytes], filename: str, purpose: str) -> StoredFile:
        """On the disk, and complete, before it has its name."""
        file_id = f"file-{uuid.uuid4().hex}"
        path = self._files / (file_id + _PARTIAL)
        num_bytes = 0
        try:
            with path.open("wb") as target:
                for chunk in chunks:
                    num_bytes += target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            path.replace(self._files / file_id)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return StoredFile(file_id, num_bytes, int(time.time()), filename, purpose)
