"""The terminal client against the real HTTP side with a fake engine."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.chat.command import main
from clients.media import sniff
from tests.clients.fake_openai import FakeOpenAI, serve
from tests.fakes import FakeEngine, FakeMedia, break_down, make_app, run_server


@pytest.fixture(scope="module")
def media() -> FakeMedia:
    return FakeMedia()


@pytest.fixture(scope="module")
def url(tiny_checkpoint: Path, media: FakeMedia) -> Iterator[str]:
    with run_server(make_app(tiny_checkpoint, FakeEngine(), media)) as base:
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


def run(url: str, arguments: list[str], piped: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "clients.chat.command", "--base-url", url, *arguments]
    return subprocess.run(command, input=piped, capture_output=True, timeout=30)


def test_a_picture_from_a_pipe_is_recognised(url: str, media: FakeMedia) -> None:
    done = run(url, ["-p", "What?"], b"\x89PNG\r\n\x1a\n...")
    assert (done.returncode, done.stdout.decode()) == (0, "Hello 👋\n")
    assert media.requests[-1].url.startswith("data:image/png;base64,")


def test_text_from_a_pipe_follows_the_prompt() -> None:
    fake = FakeOpenAI()
    with serve(fake) as url:
        arguments = [
            "-p",
            "Translate:",
            "--system",
            "Be brief.",
            "--seed",
            "7",
            "--max-tokens",
            "5",
        ]
        assert run(url, arguments, b"Guten Tag\n").returncode == 0
    (body,) = fake.bodies
    assert [m["content"] for m in body["messages"]] == ["Be brief.", "Translate:\n\nGuten Tag"]
    assert (body["model"], body["seed"], body["max_tokens"]) == ("fake", 7, 5)


@pytest.mark.parametrize(
    ("arguments", "piped", "expected"),
    [
        ([], b"GIF89a", "ask about it with -p"),
        (["-p", "?"], b"\xff\xfe\x00", "neither"),
    ],
)
def test_useless_pipes_are_refused(arguments: list[str], piped: bytes, expected: str) -> None:
    done = run("http://127.0.0.1:9/v1", arguments, piped)
    assert done.returncode == 1 and expected in done.stderr.decode()


def test_a_stream_without_an_end_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(FakeOpenAI(breaks_off=True)) as url:
        assert main(["--base-url", url, "-p", "Hi"]) == 1
    assert "broke off" in capsys.readouterr().err


def test_big_files_are_refused_before_they_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "big.mp4"
    with video.open("wb") as file:
        file.truncate(65 << 20)
    assert main(["--base-url", "http://h/v1", "--video", str(video), "-p", "?"]) == 1
    assert "larger than 64 MiB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image"),
        (b"\x00\x00\x00\x20ftypisom", "video"),
        (b"\x1aE\xdf\xa3", "video"),
    ],
)
def test_media_are_known_by_their_first_bytes(start: bytes, kind: str) -> None:
    medium = sniff(start)
    assert medium and medium.kind == kind
