"""The soak's one-minute form, and its judge on outcomes made by hand: it must not be blind."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.demo import heldout
from tests.soak.__main__ import print_verdict, soak
from tests.soak.client import End, Outcome
from tests.soak.judge import Absence, Judge
from tests.soak.material import Known, Material, Part
from tests.soak.plan import Manner, alone, draw
from tests.soak.run import Effort, Record
from tests.soak.shapes import Endpoint, Said, read_line
from tests.soak.verdict import verdict
from tests.soak.vitals import Holdings, Sample

GAUGES = {"requests_inside": 0.0, "kv_cache_usage_perc": 0.0}
IDLE = Holdings(20, 5, 12, 3, 0, 5, 0, GAUGES)
KNOWN = Known("who", (Part("text", "Who?"),), heldout.Case("who", [], lambda answer: True, ""))
PLAN = alone(KNOWN, Endpoint.CHAT)
RIGHT = Outcome(PLAN, End.ANSWERED, 10.0, 11.0, ("me",), ("stop",), 200)
CRASHED = replace(RIGHT, end=End.REFUSED, status=500, code="engine_crashed", words="It stopped.")
JUDGE = Judge({("who", Endpoint.CHAT): "me"})


@pytest.mark.alone
@pytest.mark.timeout(400)
def test_a_minute_of_everything_loses_nothing_and_leaks_nothing(tmp_path: Path) -> None:
    result = soak(Effort(seconds=60, warm_up_s=10), tmp_path / "server.log")
    print_verdict(result)
    assert result.is_good, [*result.faults[:10], *result.leaks]
    assert len(result.absences_s) == 2 and result.num_checked > 50
    kinds = {row.kind for row in result.rows}
    assert kinds == {"bad media", "known", "picture", "slow", "structured", "text", "video"}
    assert sum(row.left for row in result.rows) > 20


def test_the_judge_lets_pass_what_is_right() -> None:
    left = replace(RIGHT, end=End.LEFT, texts=())
    bad_plan = replace(PLAN, manner=Manner.BRINGS_BAD_MEDIA, known=None)
    bad = replace(CRASHED, plan=bad_plan, status=400, code="media_decode_failed")
    for outcome in (RIGHT, left, bad):
        assert JUDGE.fault(outcome, []) is None
    for absence in (Absence(9.0, 10.5), Absence(10.2, 10.3), Absence(10.9, 14)):
        assert JUDGE.fault(CRASHED, [absence]) is None


@pytest.mark.parametrize(
    "outcome",
    [
        replace(RIGHT, end=End.LOST, words="it hangs"),
        replace(RIGHT, texts=("you",)),
        replace(RIGHT, plan=replace(PLAN, manner=Manner.BRINGS_BAD_MEDIA, known=None)),
        CRASHED,
        replace(CRASHED, code="internal_error", words="The server failed. This is a bug."),
        replace(CRASHED, status=400, code="request_quarantined"),
        replace(CRASHED, status=503, code="server_overloaded"),
        replace(RIGHT, plan=replace(PLAN, known=None, schema={}), texts=('{"color": 1}',)),
    ],
    ids=["hangs", "wrong", "bad-media", "crashed", "bug", "quarantined", "full", "unstructured"],
)
def test_the_judge_sees_what_is_wrong(outcome: Outcome) -> None:
    assert JUDGE.fault(outcome, []) and JUDGE.fault(outcome, [Absence(0, 1), Absence(90, 91)][:1])


@pytest.mark.parametrize(
    ("after", "log", "status"),
    [
        (replace(IDLE, tasks=6), "", 0),
        (replace(IDLE, files=40), "", 0),
        (replace(IDLE, children=4), "", 0),
        (replace(IDLE, gauges={**GAUGES, "kv_cache_usage_perc": 0.01}), "", 0),
        (IDLE, "Traceback (most recent call last)", 0),
        (IDLE, "", 1),
    ],
    ids=["tasks", "files", "children", "blocks", "traceback", "status"],
)
def test_what_is_left_over_is_a_leak(after: Holdings, log: str, status: int) -> None:
    sample = Sample(1, 10**9, 1, 10**9)
    record = Record({("who", Endpoint.CHAT): "me"}, [RIGHT], [], [sample], IDLE, after)
    assert not verdict(record, log, status).is_good
    assert verdict(replace(record, after=IDLE), "", 0).is_good


@pytest.mark.parametrize(("bytes_each", "is_good"), [(5_000, False), (100, True)])
def test_memory_that_grows_with_requests_is_a_leak(bytes_each: int, is_good: bool) -> None:
    samples = [Sample(n, 10**9 + n * bytes_each, 1, 10**9) for n in range(0, 20_000, 100)]
    record = Record({("who", Endpoint.CHAT): "me"}, [RIGHT], [], samples, IDLE, IDLE)
    assert verdict(record, "", 0).is_good is is_good


def test_the_same_seed_asks_the_same_and_the_mix_is_as_promised() -> None:
    material = Material((KNOWN,), tuple("abcde"), ("film",), (Part("image", "x"),))
    plans = [draw(7, number, material) for number in range(4000)]
    assert plans == [draw(7, number, material) for number in range(4000)]
    for manner in Manner:
        share = sum(plan.manner is manner for plan in plans) / len(plans)
        assert share == pytest.approx(manner.value, abs=0.03)
    assert {plan.endpoint for plan in plans} == set(Endpoint)
    assert max(plan.n for plan in plans) > 1 and any(plan.sends_half for plan in plans)


def test_a_stream_that_ends_without_a_word_is_not_closed() -> None:
    said = Said()
    read_line(Endpoint.CHAT, 'data: {"choices": [{"index": 0, "delta": {"content": "a"}, '
              '"finish_reason": "stop"}]}', said)  # fmt: skip
    assert said.ends == {0: "stop"} and not said.is_closed
    read_line(Endpoint.CHAT, "data: [DONE]", said)
    assert said.is_closed


def test_plans_can_be_shown_without_their_media() -> None:
    assert PLAN == replace(PLAN) and "Who?" not in repr(KNOWN)
