"""Answers that later requests go on from: in memory, bounded in number and in bytes."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from sys import getsizeof
from typing import Any

from server.api.schemas import ContentPart, ImageContent, Message, TextContent
from server.errors import InvalidRequestError, NotFoundError

MAX_RESPONSES = 4096
_OVERHEAD_BYTES = 2048  # of a message, beside its texts


@dataclass(frozen=True)
class StoredResponse:
    body: dict[str, Any]  # as it was answered
    input_items: list[dict[str, Any]]  # of its own request
    turns: Sequence[Message]  # the whole conversation with the answer, without instructions

    @cached_property
    def num_bytes(self) -> int:
        """What earlier turns share with other responses counts for each of them."""
        return sum(map(message_bytes, self.turns)) + _size(self.body) + _size(self.input_items)


class ResponseStore:
    """The longest unused goes first. Ids cannot be guessed; there is no list of them."""

    def __init__(self, max_bytes: int, max_responses: int = MAX_RESPONSES) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._max_responses = max_responses
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()

    def __len__(self) -> int:
        return len(self._responses)

    def put(self, response_id: str, response: StoredResponse) -> None:
        self._responses[response_id] = response
        self.num_bytes += response.num_bytes
        while self.num_bytes > self.max_bytes or len(self) > self._max_responses:
            _, oldest = self._responses.popitem(last=False)
            self.num_bytes -= oldest.num_bytes

    def get(self, response_id: str) -> StoredResponse:
        """Raises NotFoundError."""
        if response_id not in self._responses:
            raise NotFoundError(
                "There is no such response; it may have been dropped for newer ones.",
                param="response_id",
                code="response_not_found",
            )
        self._responses.move_to_end(response_id)
        return self._responses[response_id]

    def previous(self, response_id: str) -> Sequence[Message]:
        """The conversation so far. Raises InvalidRequestError."""
        try:
            return self.get(response_id).turns
        except NotFoundError as error:
            raise InvalidRequestError(
                error.message, param="previous_response_id", code="previous_response_not_found"
            ) from None

    def delete(self, response_id: str) -> None:
        """Raises NotFoundError."""
        self.num_bytes -= self.get(response_id).num_bytes
        del self._responses[response_id]


def message_bytes(message: Message) -> int:
    """About what it takes: URLs with data in them are megabytes, the rest is small."""
    texts = [_text(part) for part in message.parts]
    texts += [call.function.arguments for call in message.tool_calls or ()]
    return _OVERHEAD_BYTES + sum(map(getsizeof, texts))


def _text(part: ContentPart) -> str:
    if isinstance(part, TextContent):
        return part.text
    return part.image_url.url if isinstance(part, ImageContent) else part.video_url.url


def _size(value: Any) -> int:
    """Of JSON-like data."""
    if isinstance(value, dict):
        return getsizeof(value) + sum(_size(name) + _size(item) for name, item in value.items())
    inside = sum(map(_size, value)) if isinstance(value, list) else 0
    return getsizeof(value) + inside
