"""Tests that measure time run while no other process of the same test run tests anything.

The processes of a run (and of other runs in this checkout) share two files. Whoever begins a test
passes the gate first; a test marked `alone` keeps the gate shut and waits for an empty room.
"""

import fcntl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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
        try:
            yield
        finally:  # closing would not do: a forked child may still have the files open
            fcntl.flock(room, fcntl.LOCK_UN)
            fcntl.flock(gate, fcntl.LOCK_UN)
