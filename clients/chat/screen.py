"""Shows answers as they come: Markdown on a terminal, plain text elsewhere."""

import re
import sys
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from clients.chat.wire import Piece
from clients.target import ClientError

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what could steer a terminal
_ENDINGS = {"length": "cut at the most tokens", "content_filter": "filtered"}


class Answer:
    """What came of one answer, and when."""

    def __init__(self) -> None:
        self.text = ""
        self.is_stopped = False
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._started = self._last = time.perf_counter()
        self._first: float | None = None

    def take(self, piece: Piece) -> None:
        if piece.text:
            self._last = time.perf_counter()
            self._first = self._first or self._last
        self.text += piece.text
        self._usage = piece.usage or self._usage
        self._finish = piece.finish or self._finish

    def facts(self) -> str:
        """One line: time to the first token, tokens, speed, media, how it ended."""
        facts = []
        if self._first is not None:
            facts.append(f"first token after {(self._first - self._started) * 1000:.0f} ms")
        if self._usage:
            facts += [*_tokens(self._usage, self._last - (self._first or self._last))]
        if self.is_stopped:
            facts.append("stopped")
        elif self._finish in _ENDINGS:
            facts.append(_ENDINGS[self._finish])
        return " · ".join(facts)


class Screen:
    """The terminal, or what stands in its place."""

    def __init__(self) -> None:
        self._out = Console(highlight=False)
        self._err = Console(stderr=True, highlight=False)

    def show(self, pieces: Iterable[Piece]) -> Answer:
        """Until the end, or until Ctrl-C, which keeps what came. Raises ClientError."""
        answer = Answer()
        try:
            (self._render if self._out.is_terminal else self._write)(pieces, answer)
        except KeyboardInterrupt:
            answer.is_stopped = True
        finally:
            self._finish(answer)
        return answer

    def say(self, text: str) -> None:
        self._out.print(text, style="dim", markup=False)

    def complain(self, error: ClientError) -> None:
        self._err.print(_safe(str(error)), markup=False, soft_wrap=True)

    def _render(self, pieces: Iterable[Piece], answer: Answer) -> None:
        """The end of the text while it grows; the whole of it stays afterwards."""
        tail = _Tail(answer)
        with Live(tail, console=self._out, transient=True, refresh_per_second=10):
            for piece in pieces:
                answer.take(piece)

    def _write(self, pieces: Iterable[Piece], answer: Answer) -> None:
        for piece in pieces:
            answer.take(piece)
            sys.stdout.write(piece.text)
            sys.stdout.flush()

    def _finish(self, answer: Answer) -> None:
        if not self._out.is_terminal:
            sys.stdout.write("\n" if answer.text else "")
            return
        if answer.text:
            self._out.print(Markdown(_safe(answer.text)))
        if facts := answer.facts():
            self.say(facts)


class _Tail:
    """As much of the end of a growing text as the terminal has room for."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = Markdown(_safe(self._answer.text))
        lines = console.render_lines(text, options.update(height=None), pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()


def _tokens(usage: dict[str, Any], seconds: float) -> Iterable[str]:
    details = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens") or 0
    yield f"{usage.get('prompt_tokens') or 0} + {_counted(completion, 'token')}"
    if completion > 1 and seconds > 0:
        yield f"{(completion - 1) / seconds:.1f} tokens/s"
    if tiles := details.get("image_tiles"):
        yield _counted(tiles, "tile")
    if frames := details.get("video_frames"):
        yield _counted(frames, "frame")


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _safe(text: str) -> str:
    return _UNSAFE.sub("", text)
