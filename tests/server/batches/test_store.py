"""What lies on the disk: one result per line, nothing half-written, whatever the moment."""

import io
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.batches.database import Database
from server.batches.store import BatchStore
from server.batches.types import Batch, LineResult, StoredFile


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BatchStore]:
    store = BatchStore(tmp_path)
    await store.start()
    yield store
    await store.stop()


async def begun(store: BatchStore) -> str:
    """A batch of three lines, two of them done."""
    file = await store.add(io.BytesIO(b"{}\n" * 3), "in.jsonl", "batch")
    now = int(time.time())
    batch = Batch("batch_1", "/v1/chat/completions", file.id, now, now + 9)
    assert await store.do(Database.add_batch, batch)
    changes = {"total": 3}
    assert await store.do(Database.move, batch.id, ("validating",), "in_progress", changes)
    results = [LineResult(2, False, b"third"), LineResult(0, True, b"first")]
    await store.do(Database.add_results, batch.id, results)
    return batch.id


async def batch_of(store: BatchStore, batch_id: str) -> Batch:
    batch = await store.do(Database.batch, batch_id)
    assert batch is not None
    return batch


async def content(store: BatchStore, file_id: str | None) -> bytes:
    file = await store.do(Database.file, file_id or "")
    assert isinstance(file, StoredFile)
    data = store.path(file).read_bytes()
    assert len(data) == file.num_bytes
    return data


async def test_a_line_has_one_result_whatever_runs_twice(store: BatchStore) -> None:
    batch_id = await begun(store)
    again = [LineResult(2, True, b"again"), LineResult(1, False, b"second")]
    await store.do(Database.add_results, batch_id, again)
    batch = await batch_of(store, batch_id)
    assert (batch.completed, batch.failed) == (2, 1)
    assert await store.do(Database.finished_lines, batch_id) == {0, 1, 2}
    await store.finish(batch_id, ("in_progress",), "completed")
    batch = await batch_of(store, batch_id)
    assert await content(store, batch.output_file_id) == b"second\nthird\n"
    assert await content(store, batch.error_file_id) == b"first\n"
    assert not await store.do(Database.finished_lines, batch_id)


async def test_an_end_that_was_cut_is_made_again(
    store: BatchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = await begun(store)

    def cut(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(Database, "finish", cut)
        with pytest.raises(OSError, match="space"):
            await store.finish(batch_id, ("in_progress",), "completed")
    assert len(list((tmp_path / "files").iterdir())) == 3
    await store.stop()
    after = BatchStore(tmp_path)
    await after.start()
    assert len(list((tmp_path / "files").iterdir())) == 1
    assert await after.do(Database.unfinished_ids) == [batch_id]
    await after.finish(batch_id, ("in_progress",), "completed")
    batch = await batch_of(after, batch_id)
    assert await content(after, batch.output_file_id) == b"third\n"
    await after.stop()


async def test_a_status_is_left_once(store: BatchStore) -> None:
    batch_id = await begun(store)
    assert await store.do(Database.move, batch_id, ("in_progress",), "cancelling")
    assert not await store.do(Database.move, batch_id, ("in_progress",), "finalizing")
    assert (await batch_of(store, batch_id)).status == "cancelling"


async def test_the_input_of_a_batch_stays_while_it_runs(store: BatchStore) -> None:
    batch_id = await begun(store)
    file = await store.do(Database.file, (await batch_of(store, batch_id)).input_file_id)
    assert file is not None and not await store.remove(file) and store.path(file).exists()
    await store.finish(batch_id, ("in_progress",), "cancelled")
    assert await store.remove(file) and not store.path(file).exists()
    batch = await batch_of(store, batch_id)
    assert not await store.do(Database.add_batch, batch)  # its input is gone


async def test_nobody_else_reads_along(store: BatchStore, tmp_path: Path) -> None:
    await begun(store)
    modes = modes_for_others(tmp_path)
    assert "batches.sqlite3" in modes and not any(modes.values())


def modes_for_others(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir()}


async def test_a_copy_that_fails_leaves_nothing(store: BatchStore, tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("no space left")

    with pytest.raises(OSError, match="space"):
        await store.add(Broken(), "in.jsonl", "batch")
    assert not list((tmp_path / "files").iterdir())
    assert await store.do(Database.num_file_bytes) == 0
