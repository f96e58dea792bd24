"""Another API's conversation, written down as chat messages that remember where they came from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from server.api.parse import chat_request
from server.api.paths import ClientPaths, Names
from server.api.schemas import MAX_MESSAGES, ChatCompletionRequest, Message
from server.errors import InvalidRequestError

INSTRUCTIONS = "instructions"


@dataclass(frozen=True, slots=True)
class PlacedPart:
    """A content part as chat has it, and the client's path of it.

    `url_path`: of its URL. `bounds_path`: of what stands beside the URL in chat.
    """

    content: dict[str, Any]
    path: str
    url_path: str = ""
    bounds_path: str = ""

    def names(self, prefix: str) -> Iterable[tuple[str, str]]:
        yield prefix, self.path
        kind = self.content["type"]
        if kind != "text":
            yield f"{prefix}.{kind}", self.bounds_path or self.path
            yield f"{prefix}.{kind}.url", self.url_path


def text_part(text: str, path: str) -> PlacedPart:
    return PlacedPart({"type": "text", "text": text}, path)


@dataclass(slots=True)
class _Turn:
    message: dict[str, Any]
    names: dict[str, str]


class Conversation:
    """Grows turn by turn; paths are the client's."""

    def __init__(self) -> None:
        self._turns: list[_Turn] = []

    def add(self, role: str, path: str, parts: Iterable[PlacedPart]) -> None:
        parts = list(parts)
        names = {"": path, ".content": f"{path}.content"}
        for index, part in enumerate(parts):
            names.update(part.names(f".content[{index}]"))
        content = [part.content for part in parts]
        self._turns.append(_Turn({"role": role, "content": content}, names))

    def add_result(
        self, call_id: str, path: str, id_path: str, parts: Iterable[PlacedPart]
    ) -> None:
        """What a call gave."""
        self.add("tool", path, parts)
        self._turns[-1].message["tool_call_id"] = call_id
        self._turns[-1].names[".tool_call_id"] = id_path

    def add_call(
        self, call_id: str, name: str, arguments: str, path: str, arguments_path: str
    ) -> None:
        """The assistant's; calls that follow each other, or its text, are one turn."""
        if not self._turns or self._turns[-1].message["role"] != "assistant":
            self._turns.append(_Turn({"role": "assistant"}, {"": path}))
        turn = self._turns[-1]
        calls = turn.message.setdefault("tool_calls", [])
        place = f".tool_calls[{len(calls)}]"
        turn.names |= {
            place: path,
            f"{place}.function": path,
            f"{place}.function.arguments": arguments_path,
        }
        function = {"name": name, "arguments": arguments}
        calls.append({"id": call_id, "type": "function", "function": function})

    def translated(self, fields: dict[str, Any], names: Names) -> "Translated":
        """`fields`: of the chat request beside its messages. Raises ApiError."""
        paths = ClientPaths(names, [turn.names for turn in self._turns])
        messages = [turn.message for turn in self._turns]
        given = {name: value for name, value in fields.items() if value is not None}
        with paths.restored():
            return Translated(chat_request({"messages": messages, **given}), paths)


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in our own words, and what its places are called in the client's."""

    request: ChatCompletionRequest
    paths: ClientPaths

    def after(self, history: Sequence[Message], param: str) -> "Translated":
        """With earlier turns, which have no path but `param`, behind the instructions."""
        messages, turns = self.request.messages, list(self.paths.turns)
        num_first = self._num_instructions
        if len(messages) + len(history) > MAX_MESSAGES:
            raise InvalidRequestError(
                f"The conversation has more than {MAX_MESSAGES} messages.",
                param=param,
                code="invalid_value",
            )
        whole = [*messages[:num_first], *history, *messages[num_first:]]
        turns[num_first:num_first] = [{"": param}] * len(history)
        return Translated(
            self.request.model_copy(update={"messages": whole}),
            ClientPaths(self.paths.fields, turns),
        )

    @property
    def turns(self) -> list[Message]:
        """What a later request goes on from: all but the instructions."""
        return self.request.messages[self._num_instructions :]

    @property
    def _num_instructions(self) -> int:
        return sum(names[""] == INSTRUCTIONS for names in self.paths.turns)

    def check_results(self) -> None:
        """Raises InvalidRequestError for the result of a call that nobody made."""
        known: set[str] = set()
        for index, message in enumerate(self.request.messages):
            known |= {call.id for call in message.tool_calls or ()}
            if message.role == "tool" and message.tool_call_id not in known:
                raise InvalidRequestError(
                    "No call before this one has this id.",
                    param=self.paths.of(f"messages[{index}].tool_call_id"),
                    code="invalid_value",
                )
