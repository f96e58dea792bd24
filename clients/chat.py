"""`internvl-server chat`: talk to any OpenAI-compatible server from a terminal.

Speaks HTTP only; imports neither the server nor the runtime.
"""

import argparse
import base64
import json
import mimetypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

HELP = """/image PATH_OR_URL   attach a picture to the next question
/video PATH_OR_URL   attach a video to the next question
/clear               forget the conversation
/exit                leave (Ctrl-D too); Ctrl-C stops an answer"""
DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"


class ChatError(Exception):
    """Something the user can mend; the message says how."""


class Conversation:
    """The turns so far, and the media waiting for the next question."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._parts: list[dict[str, Any]] = []

    def attach(self, kind: str, source: str) -> None:
        """`kind`: image or video. Raises ChatError when a file cannot be read."""
        self._parts.append({"type": f"{kind}_url", f"{kind}_url": {"url": to_url(kind, source)}})

    def ask(self, text: str) -> None:
        content: Any = [*self._parts, {"type": "text", "text": text}] if self._parts else text
        self._parts = []
        self.messages.append({"role": "user", "content": content})

    def answer(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def take_back(self) -> None:
        """After a failure: the question was never answered."""
        self.messages.pop()


class Client:
    """One server."""

    def __init__(self, base_url: str, api_key: str | None, model: str | None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(headers=headers, timeout=httpx.Timeout(10, read=300))
        self._base_url = base_url.rstrip("/")
        self._model = model

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def stream(self, messages: list[dict[str, Any]]) -> Iterator[str]:
        """The answer piece by piece. Raises ChatError."""
        body: dict[str, Any] = {"messages": messages, "stream": True, "model": self.model}
        try:
            url = f"{self._base_url}/chat/completions"
            with self._http.stream("POST", url, json=body) as response:
                _check(response)
                yield from _read_events(response)
        except httpx.ConnectError as error:
            raise self._unreachable() from error
        except httpx.HTTPError as error:
            raise ChatError(f"The connection failed ({type(error).__name__}).") from error

    @property
    def model(self) -> str:
        """The model to ask for: the given one, else the server's first."""
        if self._model is None:
            try:
                response = self._http.get(f"{self._base_url}/models")
                _check(response)
                self._model = str(response.json()["data"][0]["id"])
            except httpx.HTTPError as error:
                raise self._unreachable() from error
        return self._model

    def _unreachable(self) -> ChatError:
        return ChatError(
            f"No server answers at {self._base_url}. Start one with `make serve`, or name "
            "another with --base-url."
        )


def to_url(kind: str, source: str) -> str:
    """A URL as it is; a file as a data: URL."""
    if source.startswith(("http://", "https://", "data:")):
        return source
    try:
        data = Path(source).expanduser().read_bytes()
    except OSError as error:
        raise ChatError(f"Cannot read {source}: {error.strerror}.") from error
    media_type = mimetypes.guess_type(source)[0] or f"{kind}/*"
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _check(response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    response.read()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"The server answered with status {response.status_code}."
    raise ChatError(message)


def _read_events(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise ChatError(event["error"]["message"])
        for choice in event["choices"]:
            yield choice["delta"].get("content") or ""


def turn(client: Client, conversation: Conversation, text: str) -> bool:
    """Ask and print the answer as it comes. False when it failed."""
    conversation.ask(text)
    shown = ""
    try:
        for piece in client.stream(conversation.messages):
            print(piece, end="", flush=True)
            shown += piece
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    except ChatError as error:
        conversation.take_back()
        print(f"\n{error}" if shown else error, file=sys.stderr)
        return False
    print()
    conversation.answer(shown)
    return True


def run_command(line: str, conversation: Conversation) -> bool:
    """A line that begins with /. False: leave."""
    name, _, argument = line.partition(" ")
    if name in ("/exit", "/quit"):
        return False
    if name in ("/image", "/video") and argument.strip():
        try:
            conversation.attach(name[1:], argument.strip())
        except ChatError as error:
            print(error, file=sys.stderr)
    elif name == "/clear":
        conversation.messages.clear()
    else:
        print(HELP)
    return True


def interact(client: Client, conversation: Conversation) -> int:
    print(f"Talking to {client.model}. /help lists the commands.")
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if line.startswith("/"):
            if not run_command(line, conversation):
                return 0
        elif line:
            turn(client, conversation, line)


def main(argv: list[str]) -> int:
    """Entry point. Returns the exit status."""
    arguments = _parser().parse_args(argv)
    conversation = Conversation()
    try:
        for kind in ("image", "video"):
            for source in getattr(arguments, kind):
                conversation.attach(kind, source)
        with Client(arguments.base_url, arguments.api_key, arguments.model) as client:
            if arguments.prompt is not None:
                return 0 if turn(client, conversation, arguments.prompt) else 1
            return interact(client, conversation)
    except ChatError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="internvl-server chat", description="Talk to a server.")
    base_url = os.environ.get("OPENAI_BASE_URL", DEFAULT_BASE_URL)
    key = os.environ.get("OPENAI_API_KEY")
    parser.add_argument("--base-url", default=base_url, help=f"API root (default: {base_url})")
    parser.add_argument("--api-key", default=key, help="key (default: OPENAI_API_KEY)")
    parser.add_argument("--model", help="model name (default: the server's first)")
    parser.add_argument("-p", "--prompt", help="ask this one question and leave")
    parser.add_argument("--image", action="append", default=[], help="picture file or URL")
    parser.add_argument("--video", action="append", default=[], help="video file or URL")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
