"""The batch client: every line has exactly one result, in order, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from clients.batch.command import main
from tests.fakes import run_server
from tests.served import Served

COMMAND = [sys.executable, "-m", "clients.batch.command"]


@contextmanager
def echo(refusals: dict[int, int] | None = None, delay: float = 0) -> Iterator[tuple[str, list]]:
    """Answers with the question; `refusals` by number of the request: a status."""
    import asyncio

    bodies: list[dict[str, Any]] = []

    async def models() -> Any:
        return {"data": [{"id": "echo"}]}

    async def chat(request: Request) -> Any:
        bodies.append(body := await request.json())
        if status := (refusals or {}).get(len(bodies)):
            headers = {"Retry-After": "0"}
            return JSONResponse({"error": {"message": "No."}}, status, headers=headers)
        content = body["messages"][0]["content"]
        await asyncio.sleep(delay * (len(str(content)) % 3))
        return {"echo": content, "usage": {"prompt_tokens": 2, "completion_tokens": 1}}

    app = FastAPI()
    app.add_api_route("/v1/models", models)
    app.add_api_route("/v1/chat/completions", chat, methods=["POST"])
    with run_server(app) as base:
        yield f"{base}/v1", bodies


def write(path: Path, lines: list[Any]) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def questions(count: int) -> list[Any]:
    return [{"messages": [{"role": "user", "content": "x" * n}]} for n in range(count)]


def results(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_results_come_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "in.jsonl", questions(50)), tmp_path / "out.jsonl"
    with echo(delay=0.02) as (url, _):
        assert main([str(source), str(out), "--base-url", url]) == 0
    assert [r["response"]["body"]["echo"] for r in results(out)] == ["x" * n for n in range(50)]
    assert "50 ok, 0 failed; 100 + 50 tokens" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_bad_lines_become_results_and_pictures_are_sent(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"pixels")
    lines = [
        "{not json",
        {"prompt": "What?", "image": "a.png"},
        {"prompt": "What?", "image": "/etc/hostname"},
        {"custom_id": "mine", "url": "/v1/chat/completions", "body": questions(1)[0]},
    ]
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    with echo() as (url, _):
        assert main([str(source), str(out), "--base-url", url]) == 3
    bad, picture, outside, named = results(out)
    assert (bad["custom_id"], bad["error"]["code"]) == ("line-1", "invalid_line")
    part = picture["response"]["body"]["echo"][0]
    assert part["image_url"]["url"] == "data:image/png;base64,cGl4ZWxz"
    assert "folder" in outside["error"]["message"]
    assert named["custom_id"] == "mine" and named["error"] is None


def test_busy_and_broken_servers_are_asked_again(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", questions(4)), tmp_path / "out.jsonl"
    with echo({1: 429, 2: 503, 3: 500, 5: 400}) as (url, bodies):
        assert main([str(source), str(out), "--base-url", url, "--concurrency", "1"]) == 3
    statuses = [r["response"]["status_code"] for r in results(out)]
    assert statuses == [200, 400, 200, 200] and len(bodies) == 7


def test_a_killed_run_goes_on_and_asks_nothing_twice_that_is_written(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", questions(60)), tmp_path / "out.jsonl"
    with echo(delay=0.05) as (url, bodies):
        command = [*COMMAND, str(source), str(out), "--base-url", url, "--concurrency", "4"]
        first = subprocess.Popen(command)
        deadline = time.monotonic() + 20
        while len(bodies) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert not out.exists()
        with (tmp_path / "out.jsonl.part").open("ab") as part:
            part.write(b'59 {"torn')
        assert subprocess.run(command, timeout=30).returncode == 0
        assert len(bodies) <= 60 + 4
    assert [r["response"]["body"]["echo"] for r in results(out)] == ["x" * n for n in range(60)]


def test_other_input_is_not_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "in.jsonl", questions(2)), tmp_path / "out.jsonl"
    (tmp_path / "out.jsonl.part").write_bytes(b"something else\n")
    with echo() as (url, _):
        assert main([str(source), str(out), "--base-url", url]) == 1
    assert "delete it" in capsys.readouterr().err


def test_a_server_that_stays_busy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told as it is; what was answered before is not asked again."""
    asked, out = write(tmp_path / "in.jsonl", questions(3)), tmp_path / "out.jsonl"
    alone = ["--concurrency", "1"]
    with echo(dict.fromkeys(range(2, 100), 429)) as (url, _):
        command = [str(asked), str(out), "--base-url", url, *alone]
        assert main([*command, "--patience", "0.1"]) == 1
    assert "stays busy (status 429)" in capsys.readouterr().err and not out.exists()
    with echo() as (url, bodies):
        assert main([str(asked), str(out), "--base-url", url, *alone]) == 0
        assert len(bodies) == 2
    assert len(out.read_text(encoding="utf-8").splitlines()) == 3


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    asked, out = write(tmp_path / "in.jsonl", questions(60)), tmp_path / "out.jsonl"
    with echo(delay=0.2) as (url, bodies):
        command = [*COMMAND, str(asked), str(out), "--base-url", url, "--concurrency", "2"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while len(bodies) < 10:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1 and b"the same command goes on" in said
        assert b"Traceback" not in said
        asked_before = len(bodies)
        assert main([str(asked), str(out), "--base-url", url]) == 0
        assert len(bodies) - asked_before <= 60 - asked_before + 2  # those under way


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", questions(2))
    assert main([str(source), str(tmp_path / "o"), "--base-url", "http://127.0.0.1:9/v1"]) == 1
    assert "No server answers" in capsys.readouterr().err


def test_the_real_server_answers_every_line(tmp_path: Path) -> None:
    lines = [{"prompt": "Who are you?", "max_tokens": 8}] * 5 + [{"prompt": "?", "n": -1}]
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    with Served(tmp_path / "log") as served:
        assert main([str(source), str(out), "--base-url", f"{served.url}/v1"]) == 3
    assert [bool(r["error"]) for r in results(out)] == [False] * 5 + [True]
