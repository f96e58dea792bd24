"""Batches, files and results of lines in SQLite. Blocking; used from one thread.

A result is there once, by batch and line, whatever is run twice. The connection keeps the
database to itself: two servers on one folder would run every line twice.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from server.batches.types import UNFINISHED, Batch, LineResult, Problem, Status, StoredFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, num_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    status TEXT NOT NULL, metadata TEXT NOT NULL, times TEXT NOT NULL, problems TEXT NOT NULL,
    total INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL,
    output_file_id TEXT, error_file_id TEXT);
CREATE TABLE IF NOT EXISTS results (
    batch_id TEXT NOT NULL, line INTEGER NOT NULL, is_error INTEGER NOT NULL,
    content BLOB NOT NULL, PRIMARY KEY (batch_id, line));
"""
_JSON = ("metadata", "times", "problems")


class DatabaseBusyError(Exception):
    """Another server has this folder."""


class Database:
    def __init__(self, path: Path) -> None:
        """Raises DatabaseBusyError."""
        path.touch(mode=0o600)  # answers are the clients' own
        self._connection = sqlite3.connect(path, timeout=1, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(f"BEGIN EXCLUSIVE;{_SCHEMA}COMMIT;")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise DatabaseBusyError("Another server uses this --batch-dir.") from error

    def close(self) -> None:
        self._connection.close()

    # ------------------------------------------------------------------ files

    def add_file(self, file: StoredFile) -> None:
        self._insert("files", asdict(file))

    def file(self, file_id: str) -> StoredFile | None:
        row = self._row("SELECT * FROM files WHERE id = ?", file_id)
        return None if row is None else _file(row)

    def files(
        self, after: str | None, limit: int, purpose: str | None, *, is_ascending: bool
    ) -> list[StoredFile]:
        """At most `limit`, those behind `after` in the list's order."""
        wish, values = ("purpose = ?", (purpose,)) if purpose else ("TRUE", ())
        return [_file(row) for row in self._page("files", wish, values, after, limit, is_ascending)]

    def file_ids(self) -> set[str]:
        return {row["id"] for row in self._connection.execute("SELECT id FROM files")}

    def num_file_bytes(self) -> int:
        row = self._row("SELECT COALESCE(SUM(num_bytes), 0) AS total FROM files")
        return int(row["total"]) if row else 0

    def remove_file(self, file_id: str) -> bool:
        """False: a batch that is not finished reads it."""
        with self._transaction():
            marks = ", ".join("?" * len(UNFINISHED))
            query = f"SELECT 1 FROM batches WHERE input_file_id = ? AND status IN ({marks})"
            if self._row(query, file_id, *UNFINISHED) is not None:
                return False
            self._connection.execute("DELETE FROM files WHERE id = ?", (file_id,))
            return True

    # ------------------------------------------------------------------ batches

    def add_batch(self, batch: Batch) -> bool:
        """False: its input file was removed a moment ago."""
        values = asdict(batch)
        with self._transaction():
            if self.file(batch.input_file_id) is None:
                return False
            self._insert("batches", values | {name: _json(values[name]) for name in _JSON})
            return True

    def batch(self, batch_id: str) -> Batch | None:
        row = self._row("SELECT * FROM batches WHERE id = ?", batch_id)
        return None if row is None else _batch(row)

    def batches(self, after: str | None, limit: int) -> list[Batch]:
        return [_batch(row) for row in self._page("batches", "TRUE", (), after, limit, False)]

    def unfinished_ids(self) -> list[str]:
        marks = ", ".join("?" * len(UNFINISHED))
        query = f"SELECT id FROM batches WHERE status IN ({marks}) ORDER BY seq"
        return [row["id"] for row in self._connection.execute(query, UNFINISHED)]

    def move(
        self,
        batch_id: str,
        before: tuple[Status, ...],
        after: Status,
        changes: dict[str, Any] | None = None,
    ) -> bool:
        """Give the batch another status, unless it has none of `before` any more."""
        with self._transaction():
            return self._move(batch_id, before, after, changes or {})

    # ------------------------------------------------------------------ results

    def add_results(self, batch_id: str, results: Iterable[LineResult]) -> None:
        """Those of lines that have one already are dropped."""
        with self._transaction():
            for result in results:
                self._add_result(batch_id, result)

    def finished_lines(self, batch_id: str) -> set[int]:
        query = "SELECT line FROM results WHERE batch_id = ?"
        return {row["line"] for row in self._connection.execute(query, (batch_id,))}

    def results(self, batch_id: str, *, is_error: bool) -> Iterator[bytes]:
        """In the order of the input file."""
        query = "SELECT content FROM results WHERE batch_id = ? AND is_error = ? ORDER BY line"
        with closing(self._connection.execute(query, (batch_id, is_error))) as rows:
            for row in rows:
                yield row["content"]

    def finish(
        self,
        batch_id: str,
        before: tuple[Status, ...],
        after: Status,
        output: StoredFile | None,
        errors: StoredFile | None,
    ) -> None:
        """The files take the place of the results."""
        with self._transaction():
            for file in (output, errors):
                if file is not None:
                    self._insert("files", asdict(file))
            ids = {
                "output_file_id": output.id if output else None,
                "error_file_id": errors.id if errors else None,
            }
            self._move(batch_id, before, after, ids)
            self._connection.execute("DELETE FROM results WHERE batch_id = ?", (batch_id,))

    # ------------------------------------------------------------------ statements

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._connection)

    def _row(self, query: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._connection.execute(query, values).fetchone()
        return row

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        """Table and column names are ours."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())
        )

    def _page(
        self,
        table: str,
        wish: str,
        values: tuple[Any, ...],
        after: str | None,
        limit: int,
        is_ascending: bool,
    ) -> list[sqlite3.Row]:
        order, side = ("ASC", ">") if is_ascending else ("DESC", "<")
        if after is not None:
            wish += f" AND seq {side} (SELECT seq FROM {table} WHERE id = ?)"
            values = (*values, after)
        query = f"SELECT * FROM {table} WHERE {wish} ORDER BY seq {order} LIMIT ?"
        return self._connection.execute(query, (*values, limit)).fetchall()

    def _move(
        self, batch_id: str, before: tuple[Status, ...], after: Status, changes: dict[str, Any]
    ) -> bool:
        batch = self.batch(batch_id)
        if batch is None or batch.status not in before:
            return False
        values = {name: _json(value) if name in _JSON else value for name, value in changes.items()}
        values |= {"status": after, "times": _json({**batch.times, after: int(time.time())})}
        settings = ", ".join(f"{name} = ?" for name in values)
        self._connection.execute(
            f"UPDATE batches SET {settings} WHERE id = ?", (*values.values(), batch_id)
        )
        return True

    def _add_result(self, batch_id: str, result: LineResult) -> None:
        done = self._connection.execute(
            "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)",
            (batch_id, result.line, result.is_error, result.content),
        )
        if done.rowcount:
            count = "failed" if result.is_error else "completed"
            self._connection.execute(
                f"UPDATE batches SET {count} = {count} + 1 WHERE id = ?", (batch_id,)
            )


class _Transaction:
    """All of it or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _file(row: sqlite3.Row) -> StoredFile:
    return StoredFile(**{name: row[name] for name in row.keys() if name != "seq"})


def _batch(row: sqlite3.Row) -> Batch:
    values = {name: row[name] for name in row.keys() if name != "seq"}
    values |= {name: msgspec.json.decode(values[name]) for name in _JSON}
    values["problems"] = [Problem(**problem) for problem in values["problems"]]
    return Batch(**values)
