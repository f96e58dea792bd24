"""How the log lines of both processes look and leave: for people, or one JSON object per line."""

import json
import logging
import os
import queue
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from threading import Thread
from typing import Any, Literal

LogFormat = Literal["text", "json"]
_MAX_LINES = 10_000  # that wait to be written
_FLUSH_TIMEOUT_S = 1.0
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up_logging(level: str, log_format: LogFormat) -> None:
    """Log to stderr. Leaves a root logger alone that has handlers already."""
    if logging.getLogger().handlers:
        return
    handler = UnblockedHandler(sys.stderr.fileno())
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class UnblockedHandler(logging.Handler):
    """Lines are written by a thread: who logs waits neither for a full pipe nor for a full disk.

    Lines that find no place in the queue are lost, and counted by a line of their own.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lines: queue.Queue[str] = queue.Queue(_MAX_LINES)
        self._num_lost = 0
        Thread(target=self._write_for_ever, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._num_lost:
                self._lines.put_nowait(self.format(_loss(self._num_lost)))
                self._num_lost = 0
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._num_lost += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all is written, but not for ever."""
        deadline = time.monotonic() + _FLUSH_TIMEOUT_S
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def _write_for_ever(self) -> None:
        while True:
            rest = (self._lines.get() + "\n").encode(errors="backslashreplace")
            with suppress(OSError):  # nobody reads any more, or the disk is full
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            self._lines.task_done()


def _loss(num_lines: int) -> logging.LogRecord:
    told = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord(told | {"msg": f"{num_lines} lines of this log were lost"})


class JsonFormatter(logging.Formatter):
    """One object per line. A record's `fields` (by `extra`) stand in place of its message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line |= getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
