"""Files and batches, when the operator gave them a folder."""

from pathlib import Path

from server.batches.runner import BatchRunner, Execute
from server.batches.store import BatchStore
from server.errors import NotFoundError
from server.settings import ServerSettings


class BatchHouse:
    """Where files lie and batches run. Without a folder it refuses by the flag's name."""

    def __init__(self, settings: ServerSettings, execute: Execute) -> None:
        self._store: BatchStore | None = None
        self._runner: BatchRunner | None = None
        if settings.batch_dir is not None:
            self._store = BatchStore(Path(settings.batch_dir))
            self._runner = BatchRunner(
                self._store,
                execute,
                max_lines=max(1, settings.max_num_seqs // 2),  # live requests find seats free
                max_line_bytes=settings.max_body_bytes,
            )

    @property
    def store(self) -> BatchStore:
        """Raises NotFoundError."""
        if self._store is None:
            raise _disabled()
        return self._store

    @property
    def runner(self) -> BatchRunner:
        """Raises NotFoundError."""
        if self._runner is None:
            raise _disabled()
        return self._runner

    async def start(self) -> None:
        """Raises DatabaseBusyError, OSError."""
        if self._store is not None:
            await self._store.start()
            await self.runner.start()

    async def stop(self) -> None:
        if self._store is not None:
            await self.runner.stop()
            await self._store.stop()


def _disabled() -> NotFoundError:
    """Not 501: clients send requests again that fail with a 5xx."""
    return NotFoundError(
        "Files and batches are off: they need a folder that outlives the server. "
        "Start the server with --batch-dir.",
        code="batches_disabled",
    )
