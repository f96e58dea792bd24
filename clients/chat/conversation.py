"""What was asked and answered so far."""

import json
from dataclasses import dataclass, replace
from typing import Any

from clients.media import Medium
from clients.target import ClientError


@dataclass(frozen=True, slots=True)
class Turn:
    question: str
    media: tuple[Medium, ...] = ()
    answer: str = ""


class Conversation:
    """The answered turns, the question under way, and media that wait for the next question."""

    def __init__(self, system: str | None = None, num_frames: int | None = None) -> None:
        self.system = system
        self._num_frames = num_frames
        self._turns: list[Turn] = []
        self._asked: Turn | None = None  # not answered: under way, or it failed
        self._waiting: list[Medium] = []

    def attach(self, medium: Medium) -> None:
        """Put it before the text of the next question."""
        self._waiting.append(medium)

    def ask(self, text: str) -> None:
        self._asked = Turn(text, tuple(self._waiting))
        self._waiting = []

    def answer(self, text: str) -> None:
        """Of the question under way. Nothing is no answer: servers refuse such a history."""
        if self._asked is not None and text:
            self._turns.append(replace(self._asked, answer=text))
            self._asked = None

    def ask_again(self) -> None:
        """The question that failed, else the last one. Raises ClientError when there is none."""
        if self._asked is None:
            self._asked = self._pop()

    def undo(self) -> None:
        """Forget the last question with its answer. Raises ClientError when there is none."""
        if self._asked is None:
            self._pop()
        self._asked = None

    def clear(self) -> None:
        """Forget all but the system message."""
        self._turns, self._asked, self._waiting = [], None, []

    def messages(self) -> list[dict[str, Any]]:
        """As OpenAI's chat wants them, with the question under way at the end."""
        messages: list[dict[str, Any]] = []
        if self.system:
            messages.append({"role": "system", "content": self.system})
        for turn in self._turns:
            messages.append({"role": "user", "content": self._content(turn)})
            messages.append({"role": "assistant", "content": turn.answer})
        if self._asked is not None:
            messages.append({"role": "user", "content": self._content(self._asked)})
        return messages

    def as_json(self) -> str:
        """The messages, whole: another client can go on from them."""
        return json.dumps({"messages": self.messages()}, ensure_ascii=False, indent=1) + "\n"

    def as_markdown(self) -> str:
        blocks = [f"> {self.system}"] if self.system else []
        for turn in self._turns:
            media = [f"[{medium.kind}: {medium.name}]" for medium in turn.media]
            blocks += ["## Question", *media, turn.question, "## Answer", turn.answer]
        return "\n\n".join(blocks) + "\n"

    def _pop(self) -> Turn:
        if not self._turns:
            raise ClientError("Nothing was asked yet.")
        return self._turns.pop()

    def _content(self, turn: Turn) -> Any:
        if not turn.media:
            return turn.question
        parts = [medium.part(self._num_frames) for medium in turn.media]
        return [*parts, {"type": "text", "text": turn.question}]
