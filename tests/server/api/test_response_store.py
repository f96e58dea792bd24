"""The store of answers: bounded, the longest unused goes first."""

import pytest

from server.api.responses.store import ResponseStore, StoredResponse
from server.api.schemas import Message
from server.errors import InvalidRequestError, NotFoundError


def stored(text: str) -> StoredResponse:
    return StoredResponse({}, [], [Message.model_validate({"role": "user", "content": text})])


def test_the_longest_unused_goes_first() -> None:
    store = ResponseStore(1 << 20, max_responses=2)
    store.put("a", stored("x"))
    store.put("b", stored("x"))
    store.get("a")
    store.put("c", stored("x"))
    assert len(store) == 2 and store.get("a") and store.get("c")
    with pytest.raises(NotFoundError):
        store.get("b")


def test_bytes_are_bounded_and_given_back() -> None:
    one = stored("x" * 10_000)
    assert 10_000 < one.num_bytes < 15_000
    store = ResponseStore(3 * one.num_bytes)
    for name in "abcde":
        store.put(name, stored("x" * 10_000))
        assert store.num_bytes <= store.max_bytes
    assert len(store) == 3
    for name in "cde":
        store.delete(name)
    assert (len(store), store.num_bytes) == (0, 0)


def test_a_picture_counts_with_its_bytes() -> None:
    url = "data:image/png;base64," + "A" * 100_000
    content = [{"type": "image_url", "image_url": url}]
    message = Message.model_validate({"role": "user", "content": content})
    assert StoredResponse({}, [{"content": content}], [message]).num_bytes > 200_000


def test_what_is_gone_cannot_be_gone_on_from() -> None:
    store = ResponseStore(1 << 20)
    with pytest.raises(InvalidRequestError) as refused:
        store.previous("a")
    assert refused.value.param == "previous_response_id"
