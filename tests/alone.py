"""Tests that measure time run while no other process of the same test run tests anything.

The processes of a run (and of other runs in this checkout) share two files. Whoever begins a test
passes the gate first; a test marked `alone` keeps the gate shut and waits for an empty room.

pytest-timeout ends a test that takes too long by an exception; one that hangs even then (in its
clean-up, or where no signal is heard) ends its process here, and pytest-xdist tells which it was.
"""

import faulthandler
import fcntl
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HANGS_S = 300


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    folder = item.config.cache.mkdir("alone")
    with _place(folder, item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _place(folder: Path, alone: bool) -> Iterator[None]:
    gate, room = ((folder / name).open("w") for name in ("gate", "room"))
    with gate, room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        faulthandler.dump_traceback_later(HANGS_S, exit=True, file=sys.__stderr__)
        try:
            yield
        finally:  # closing would not do: a forked child may still have the files open
            faulthandler.cancel_dump_traceback_later()
            fcntl.flock(room, fcntl.LOCK_UN)
            fcntl.flock(gate, fcntl.LOCK_UN)
