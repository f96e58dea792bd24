"""The terminal chat as a person meets it: a process on a pseudo-terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.fake_openai import FakeOpenAI, serve
from tests.served import Served

_STYLING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """A chat on a terminal of 80 columns."""

    def __init__(self, url: str, home: Path) -> None:
        self._fd, theirs = pty.openpty()
        environment = os.environ | {
            "TERM": "xterm",
            "COLUMNS": "80",
            "LINES": "24",
            "XDG_STATE_HOME": str(home),
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clients.chat.command", "--base-url", url],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self._said = ""

    def expect(self, text: str) -> str:
        """What is shown up to and with `text`; the next call goes on after it."""
        deadline = time.monotonic() + 20
        while text not in (plain := _STYLING.sub("", self._said)):
            assert time.monotonic() < deadline, f"no {text!r} in {plain!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self._said += os.read(self._fd, 65536).decode(errors="replace")
        before, _, self._said = plain.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def leave(self) -> int:
        """By Ctrl-D; the exit status."""
        self.expect(">")  # before that, the terminal itself would take the key
        self.type("\x04")
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)


@pytest.fixture
def fake() -> FakeOpenAI:
    return FakeOpenAI()


@pytest.fixture
def terminal(fake: FakeOpenAI, tmp_path: Path) -> Iterator[Terminal]:
    with serve(fake) as url:
        terminal = Terminal(url, tmp_path)
        try:
            terminal.expect("Talking to fake")
            terminal.expect("commands.")
            terminal.expect(">")
            yield terminal
        finally:
            terminal.close()


def contents(fake: FakeOpenAI) -> list[object]:
    return [message["content"] for message in fake.bodies[-1]["messages"]]


def test_a_conversation_with_commands(fake: FakeOpenAI, terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("/image http://h/1.png\r")
    terminal.type("first\r")
    assert "word word word word" in terminal.expect("12 + 8 tokens")
    terminal.type("/system Be brief.\r")
    terminal.type("sec\\\rond\r")
    terminal.expect(" + 8 tokens")
    image = {"type": "image_url", "image_url": {"url": "http://h/1.png"}}
    question = [image, {"type": "text", "text": "first"}]
    assert contents(fake) == ["Be brief.", question, "word word word word ", "sec\nond"]
    terminal.type("/undo\r")
    terminal.type("/retry\r")
    terminal.expect(" + 8 tokens")
    assert contents(fake) == ["Be brief.", question]
    saved = tmp_path / "talk.json"
    terminal.type(f"/save {saved}\r")
    terminal.expect("Written to")
    assert len(json.loads(saved.read_text(encoding="utf-8"))["messages"]) == 3
    terminal.type("/clear\r")
    terminal.type("third\r")
    terminal.expect(" + 8 tokens")
    assert contents(fake) == ["Be brief.", "third"]
    assert terminal.leave() == 0
    assert "+third" in (tmp_path / "internvl-server" / "chat_history").read_text()


def test_pasted_lines_are_one_question(fake: FakeOpenAI, terminal: Terminal) -> None:
    terminal.type("\x1b[200~one\rtwo\x1b[201~\r")
    terminal.expect(" + 8 tokens")
    assert contents(fake) == ["one\ntwo"]


def test_ctrl_c_stops_the_answer_and_keeps_what_came(fake: FakeOpenAI, terminal: Terminal) -> None:
    fake.gap_s = 30
    terminal.type("long\r")
    terminal.expect("word")
    terminal.interrupt()
    terminal.expect("stopped")
    deadline = time.monotonic() + 10
    while fake.num_running:  # the server noticed
        assert time.monotonic() < deadline
        time.sleep(0.02)
    fake.gap_s = 0
    terminal.type("and then?\r")
    terminal.expect(" + 8 tokens")
    assert contents(fake) == ["long", "word ", "and then?"]
    assert terminal.leave() == 0


def test_a_failure_is_told_and_can_be_tried_again(fake: FakeOpenAI, terminal: Terminal) -> None:
    fake.refusals = {1: (503, "overloaded")}
    terminal.type("hello\r")
    terminal.expect("No.")
    terminal.type("/retry\r")
    terminal.expect(" + 8 tokens")
    assert contents(fake) == ["hello"]


def test_the_real_server_answers(tmp_path: Path) -> None:
    with Served(tmp_path / "log") as served:
        terminal = Terminal(f"{served.url}/v1", tmp_path)
        try:
            terminal.expect("commands.")
            terminal.expect(">")
            terminal.type("Who are you?\r")
            assert "InternVL" in terminal.expect(" tokens")
            assert terminal.leave() == 0
        finally:
            terminal.close()
