"""The terminal client against the real HTTP side with a fake engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.chat import main
from tests.fakes import FakeEngine, FakeMedia, break_down, make_app, run_server


@pytest.fixture(scope="module")
def media() -> FakeMedia:
    return FakeMedia()


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def url(tiny_checkpoint: Path, engine: FakeEngine, media: FakeMedia) -> Iterator[str]:
    with run_server(make_app(tiny_checkpoint, engine, media)) as base:
        yield f"{base}/v1"


def test_one_question_prints_the_answer(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base-url", url, "-p", "Hi"]) == 0
    assert capsys.readouterr().out == "Hello 👋\n"


def test_files_are_sent_as_data_urls(url: str, media: FakeMedia, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"pixels")
    video = "http://h/clip.mp4"
    assert main(["--base-url", url, "--image", str(picture), "--video", video, "-p", "?"]) == 0
    kinds = [(request.kind, request.url) for request in media.requests[-2:]]
    assert kinds == [("image", "data:image/png;base64,cGl4ZWxz"), ("video", video)]


def test_a_conversation_keeps_its_history(
    url: str, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["/image http://h/1", "first", "second", "/clear", "third", "/exit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    before = len(engine.requests)
    assert main(["--base-url", url]) == 0
    first, second, third = (len(r.prompt.token_ids) for r in engine.requests[before:])
    assert second > first > third


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--image", "/nonexistent.png"], "Cannot read /nonexistent.png"),
        (["--model", "nope"], "does not exist"),
        (["--image", "http://h/bad"], "It is bad."),
    ],
)
def test_failures_say_what_is_wrong(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["--base-url", url, *arguments, "-p", "Hi"]) == 1
    assert expected in capsys.readouterr().err


def test_no_server_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base-url", "http://127.0.0.1:9/v1", "-p", "Hi"]) == 1
    assert "make serve" in capsys.readouterr().err


def test_an_answer_that_breaks_off_is_a_failure(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(break_down))) as base:
        assert main(["--base-url", f"{base}/v1", "-p", "Hi"]) == 1
    shown = capsys.readouterr()
    assert "so far" in shown.out and "engine stopped" in shown.err
