"""Permits are bounded, come back once, and are shared fairly between keys."""

import pytest

from server.admission import Admission, Permit, Quotas
from server.errors import OverloadedError, RateLimitError


class Door:
    """An admission with a clock by hand, and what it told about refusals."""

    def __init__(self, max_requests: int, **quotas: int) -> None:
        self.now = 0.0
        self.max_tokens = 1e9
        self.reasons: list[str] = []
        self.admission = Admission(
            max_requests,
            Quotas(**quotas),
            self.reasons.append,
            lambda: self.max_tokens,
            lambda: self.now,
        )

    def admit(self, key: str, count: int) -> list[Permit]:
        return [self.admission.admit(key) for _ in range(count)]


def test_a_full_house_refuses_and_a_leaver_makes_room() -> None:
    door = Door(2)
    first, _ = door.admit("", 2)
    for refused in (door.admission.admit, door.admission.knock):
        with pytest.raises(OverloadedError):
            refused()
    first.release()
    door.admission.admit()
    assert (door.admission.num_inside, door.reasons) == (2, ["full", "full"])


def test_releasing_twice_is_releasing_once() -> None:
    admission = Admission(1)
    permit = admission.admit()
    permit.release()
    permit.release()
    assert admission.num_inside == 0


def test_a_key_has_so_many_at_a_time() -> None:
    door = Door(10, max_concurrent_requests=2)
    first, _ = door.admit("a", 2)
    for refused in (door.admission.admit, door.admission.knock):
        with pytest.raises(RateLimitError):
            refused("a")
    door.admit("b", 2)
    first.release()
    door.admit("a", 1)
    assert door.reasons == ["concurrency"] * 2


def test_no_minute_has_more_than_the_rate() -> None:
    door = Door(10, requests_per_minute=2)
    door.admission.knock("a")
    door.now = 50
    door.admission.knock("a")
    with pytest.raises(RateLimitError) as refusal:
        door.admission.knock("a")
    assert 10 <= int(refusal.value.headers["Retry-After"]) <= 12
    door.admission.knock("b")
    door.now = 60
    door.admission.knock("a")
    with pytest.raises(RateLimitError):
        door.admission.knock("a")
    assert door.reasons == ["rate", "rate"]


def test_who_is_refused_for_want_of_room_has_not_used_up_its_rate() -> None:
    door = Door(1, requests_per_minute=1)
    (inside,) = door.admit("b", 1)
    with pytest.raises(OverloadedError):
        door.admission.knock("a")
    inside.release()
    door.admission.knock("a")


def test_one_key_leaves_room_for_the_others() -> None:
    """Of ten places, eight go to whoever comes; the rest to those below their share."""
    door = Door(10, num_keys=2)
    greedy = door.admit("greedy", 8)
    with pytest.raises(OverloadedError):
        door.admission.admit("greedy")
    modest = door.admit("modest", 2)
    assert door.reasons == ["fair_share"]
    for _ in range(3):  # places go to the modest one until both have five
        greedy.pop().release()
        with pytest.raises(OverloadedError):
            door.admission.admit("greedy")
        modest += door.admit("modest", 1)
    assert (len(greedy), len(modest)) == (5, 5)
    modest.pop().release()
    with pytest.raises(OverloadedError):
        door.admission.admit("greedy")
    greedy.pop().release()
    door.admit("greedy", 1)


@pytest.mark.parametrize("num_keys", [0, 1])
def test_who_is_alone_gets_the_whole_house(num_keys: int) -> None:
    door = Door(10, num_keys=num_keys)
    door.admit("", 10)


def test_the_books_of_a_key_end_with_its_last_request() -> None:
    door = Door(10)
    for key in ("a", "b"):
        (permit,) = door.admit(key, 1)
        permit.release()
    assert not door.admission._num_inside


def test_tokens_fill_the_house_too() -> None:
    door = Door(10)
    door.max_tokens = 100
    first, second, third = door.admit("", 3)
    first.reserve(60)
    with pytest.raises(OverloadedError):
        second.reserve(50)
    second.reserve(40)
    for refused in (door.admission.admit, door.admission.knock):
        with pytest.raises(OverloadedError):
            refused()
    first.release()
    third.reserve(60)
    assert door.reasons == ["tokens"] * 3 and door.admission.num_tokens == 100
    second.release()
    third.release()
    assert door.admission.num_tokens == 0


def test_one_that_is_alone_may_be_larger_than_the_house() -> None:
    door = Door(10)
    door.max_tokens = 100
    (alone,) = door.admit("", 1)
    alone.reserve(1000)
    alone.release()
    door.admit("", 1)


def test_media_leave_a_quarter_of_the_house_to_texts() -> None:
    door = Door(4)
    with door.admission.loading_media(), door.admission.loading_media():
        with door.admission.loading_media():
            with pytest.raises(OverloadedError), door.admission.loading_media():
                pass
            door.admit("", 4)
        with door.admission.loading_media():
            pass
    assert door.reasons == ["media"]
