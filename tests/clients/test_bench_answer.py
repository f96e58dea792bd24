"""Reading stamped answers, and the arithmetic of the figures."""

import json

import numpy as np
import pytest

from clients.bench.answer import Record, read_answer
from clients.bench.figures import Block, percentile, samples, summarise
from clients.bench.options import Load
from clients.bench.wire import Stamped

HELLO = b'data: {"choices": [{"delta": {"content": "Hello"}, "finish_reason": null}]}\r\n\r\n'
ROLE = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
CALL = b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}\n\n'
END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}\n\n'
DONE = b"data: [DONE]\n\n"


def stamped(*reads: bytes, status: int | None = 200, failure: str | None = None) -> Stamped:
    """Started at 1; read number i came at 2 + i; ended at 10."""
    stamps = tuple((2.0 + number, data) for number, data in enumerate(reads))
    return Stamped(0.5, 1.0, 10.0, status, stamps, failure)


def test_only_chunks_with_content_are_tokens_times() -> None:
    record = read_answer(stamped(ROLE, HELLO, b": ping\n\n", CALL, END, USAGE, DONE))
    assert record == Record(0.5, 1.0, 10.0, 2.0, (3.0, 5.0), 9, 3)


def test_events_may_be_cut_and_joined_anywhere() -> None:
    """An event belongs to the read that completes its line."""
    whole = HELLO + HELLO + END + DONE
    for cut in range(1, len(whole)):
        record = read_answer(stamped(whole[:cut], whole[cut:]))
        assert len(record.content_times) == 2 and record.error is None
    assert read_answer(stamped(HELLO[:-3], HELLO[-3:], END)).content_times == (3.0,)


@pytest.mark.parametrize(
    ("exchange", "error"),
    [
        (stamped(HELLO), "incomplete stream"),
        (stamped(HELLO, failure="timeout"), "timeout"),
        (stamped(status=None, failure="ConnectError"), "ConnectError"),
        (stamped(b"<html>", status=502), "502"),
        (stamped(b'{"error": {"type": "overloaded"}}', status=503), "503 overloaded"),
        (stamped(b'{"detail": "Not Found"}', status=404), "404"),
        (stamped(b'{"error": "text"}', status=400), "400"),
        (stamped(HELLO, b'data: {"error": {"code": "engine"}}\n\n', DONE), "in stream engine"),
        (stamped(b"data: no json\n\n"), "not a chat stream"),
        (stamped(b"data: [1]\n\n"), "not a chat stream"),
        (stamped(json.dumps({"choices": []}).encode()), "incomplete stream"),
    ],
)
def test_failures_have_codes(exchange: Stamped, error: str) -> None:
    assert read_answer(exchange).error == error


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101])
def test_percentiles_are_numpys(count: int) -> None:
    values = sorted(np.random.default_rng(count).exponential(size=count).tolist())
    for percent in (50, 90, 95, 99):
        assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def test_each_figure_by_its_formula() -> None:
    one = Record(0.0, 0.25, 3.0, 0.5, (1.0, 1.5, 2.5), 10, 7)
    failed = Record(0.0, 1.0, 2.0, error="500")
    found = samples(Block(Load(None, 1.0), (one, failed), 0.0))
    assert found == {
        "ttft": [750],
        "itl": [500, 1000],
        "tpot": [250],  # (2.5 - 1.0) / (7 - 1)
        "e2e": [2750],
        "first event": [250],
        "ttft from schedule": [1000],
        "e2e from schedule": [3000],
        "send lag": [250, 1000],
    }


def test_rates_are_of_completed_requests_over_the_whole_time() -> None:
    good, slow = Record(0, 0, 2, 1.0, (1.0, 1.1), 10, 2), Record(1, 1, 4, 3.5, (3.5, 3.6), 30, 6)
    summary = summarise(
        Block(Load(2), (good, slow, Record(0, 0, 5, error="429")), 0), {"ttft": 1e3}
    )
    assert (summary.seconds, summary.num_requests, summary.num_completed) == (5, 3, 2)
    assert (summary.request_throughput, summary.output_throughput) == (0.4, 1.6)
    assert (summary.request_goodput, summary.mean_input_tokens) == (0.2, 20)


def test_an_answer_without_content_has_no_first_token_and_is_not_good() -> None:
    block = Block(Load(1), (Record(0, 0, 1, None, (), 10, 1),), 0)
    summary = summarise(block, {"ttft": 1e6})
    assert (summary.num_completed, summary.request_goodput) == (1, 0)
    assert set(summary.latencies_ms) == {"e2e"}
