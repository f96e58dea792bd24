"""Tests that measure time run while no other process of the same test run tests anything.

The processes of pytest-xdist share two files. Whoever begins a test passes the gate first; a test
marked `alone` keeps the gate shut and waits until the room is empty.
"""

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import gettempdir

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    alone = item.get_closest_marker("alone") is not None
    with _place(Path(gettempdir()) / f"tests-{run}", alone) if run else nullcontext():
        return (yield)


@contextmanager
def _place(folder: Path, alone: bool) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    gate, room = ((folder / name).open("w") for name in ("gate", "room"))
    with gate, room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield
