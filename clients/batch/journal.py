"""Results on their way: OUT.part holds each as soon as it is there, OUT all of them in order."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from clients.target import ClientError


class Journal:
    """Survives being killed: a line that was not written whole is asked for again.

    A file with a head (what it belongs to), then `NUMBER RESULT` for each input line.
    """

    def __init__(self, out: Path, head: bytes) -> None:
        self._out = out
        self._path = out.with_name(out.name + ".part")
        self._head = head + b"\n"
        self._places: dict[int, int] = {}  # where the result of an input line begins

    def __enter__(self) -> "Journal":
        """Raises ClientError when it belongs to something else; OSError."""
        self._file = self._path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except BlockingIOError as error:
            self._file.close()
            raise ClientError(f"Another batch writes {self._out} just now.") from error
        except ClientError:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def done(self) -> set[int]:
        return set(self._places)

    def add(self, number: int, result: bytes) -> None:
        """`result` without a line break. It is with the system when this returns."""
        start = self._file.seek(0, os.SEEK_END)
        prefix = b"%d " % number
        self._file.write(prefix + result + b"\n")
        self._file.flush()
        self._places[number] = start + len(prefix)

    def finish(self) -> None:
        """Write OUT in the order of the input; it appears whole or not at all."""
        whole = self._out.with_name(self._out.name + ".tmp")
        with whole.open("wb") as out:
            for number in sorted(self._places):
                self._file.seek(self._places[number])
                out.write(self._file.readline())
            out.flush()
            os.fsync(out.fileno())
        whole.replace(self._out)
        self._path.unlink()

    def _load(self) -> None:
        self._file.seek(0)
        head = self._file.readline()
        if not head.endswith(b"\n"):
            self._file.truncate(0)
            self._file.write(self._head)
            self._file.flush()
        elif head != self._head:
            raise ClientError(
                f"{self._path} belongs to other input or another --model; delete it to begin anew."
            )
        else:
            self._load_results()

    def _load_results(self) -> None:
        start = self._file.tell()
        while line := self._file.readline():
            if not line.endswith(b"\n"):
                self._file.truncate(start)
                return
            number, _, _ = line.partition(b" ")
            self._places[int(number)] = start + len(number) + 1
            start = self._file.tell()
