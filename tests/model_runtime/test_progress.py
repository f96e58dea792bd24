"""Progress is a line in the log where no terminal is, and nothing at all when it is quick."""

import logging

import pytest

from model_runtime import progress
from model_runtime.progress import Progress


def test_long_work_is_told_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0, *range(0, 50, 5)])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    caplog.set_level(logging.INFO)
    work = Progress("loading weights", 100)
    for _ in range(10):
        work.advance(10)
    work.close()
    assert caplog.messages == [f"loading weights: {share} %" for share in (30, 50, 70, 90)]


def test_short_work_is_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    work = Progress("loading weights", 100)
    work.advance(100)
    work.close()
    assert not caplog.messages
