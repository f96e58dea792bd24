"""Two servers in turns: a known ratio is found, with an interval that holds it."""

import json
import random
from pathlib import Path

import pytest

from clients.bench.command import main
from clients.bench.compare import interval
from tests.clients.fake_openai import FakeOpenAI, serve


@pytest.mark.alone
def test_a_known_ratio_lies_in_a_narrow_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A takes twice B's time to the first token and to the whole answer."""
    slow, fast = FakeOpenAI(first_s=0.16, gap_s=0.04), FakeOpenAI(first_s=0.08, gap_s=0.02)
    file = tmp_path / "line.json"
    with serve(slow) as url_a, serve(fast) as url_b:
        arguments = ["--compare", url_a, url_b, "--pairs", "5", "--num-prompts", "4"]
        assert main([*arguments, "--concurrency", "4", "--json", str(file)]) == 0
    found = {one["figure"]: one for one in json.loads(file.read_text())["comparison"]["ratios"]}
    for figure in ("ttft p50, ms", "e2e p50, ms", "tpot p50, ms"):
        assert found[figure]["ratio"] == pytest.approx(2, rel=0.1)
        assert found[figure]["low"] <= found[figure]["ratio"] <= found[figure]["high"]
        assert found[figure]["high"] - found[figure]["low"] < 0.4
    assert found["requests/s"]["ratio"] == pytest.approx(0.5, rel=0.1)
    assert "TTFT p50, ms" in capsys.readouterr().out


def test_both_get_the_same_messages_and_no_pair_repeats_them() -> None:
    one, other = FakeOpenAI(), FakeOpenAI()
    with serve(one) as url_a, serve(other) as url_b:
        assert main(["--compare", url_a, url_b, "--pairs", "3", "--num-prompts", "3"]) == 0
    texts = [[body["messages"][0]["content"] for body in fake.bodies] for fake in (one, other)]
    assert sorted(texts[0]) == sorted(texts[1])
    assert len(set(texts[0])) == len(texts[0]) == 2 + 3 * (3 + 2)


def test_a_side_that_refuses_everything_ends_the_comparison(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refusals = dict.fromkeys(range(3, 50), (503, "busy"))
    with serve(FakeOpenAI()) as url_a, serve(FakeOpenAI(refusals=refusals)) as url_b:
        assert main(["--compare", url_a, url_b, "--pairs", "2", "--num-prompts", "2"]) == 1
    assert "503 busy" in capsys.readouterr().err


def test_the_interval_holds_the_median_about_nine_times_of_ten() -> None:
    chance = random.Random(0)
    held = 0
    for trial in range(100):
        low, high = interval([chance.lognormvariate(0.0, 0.3) for _ in range(15)], trial)
        held += low <= 1.0 <= high
    assert 80 <= held <= 98
