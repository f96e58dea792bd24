"""`internvl-server bench` against a server with known times, and against the product."""

import json
from pathlib import Path
from typing import Any

import pytest

from clients.bench.command import main
from server.__main__ import main as internvl_server
from tests.clients.fake_openai import FakeOpenAI, serve

WORKLOADS = ["text", "image", "multi-image", "video", "mixed"]


def measure(url: str, tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    """The summaries that the bench wrote."""
    file = tmp_path / "lines.jsonl"
    assert main(["--base-url", url, "--json", str(file), *arguments]) == 0
    return [json.loads(line)["summary"] for line in file.read_text().splitlines()]


@pytest.mark.alone
def test_known_times_are_found(tmp_path: Path) -> None:
    fake = FakeOpenAI(first_s=0.1, gap_s=0.03, num_chunks=6, tokens_per_chunk=2)
    with serve(fake) as url:
        [summary] = measure(url, tmp_path, "--num-prompts", "12", "--concurrency", "2")
    latencies = {name: values["p50"] for name, values in summary["latencies_ms"].items()}
    assert 100 <= latencies["ttft"] < 125
    assert 30 <= latencies["itl"] < 38
    assert 5 * 30 / 11 <= latencies["tpot"] < 5 * 38 / 11
    assert 250 <= latencies["e2e"] < 310
    assert summary["mean_output_tokens"] == 12
    assert 2 / 0.31 < summary["request_throughput"] < 2 / 0.25
    assert summary["output_throughput"] == pytest.approx(12 * summary["request_throughput"])


def test_input_len_is_reached_by_the_servers_own_count(tmp_path: Path) -> None:
    """The fake counts two tokens a word and ten around them."""
    with serve(FakeOpenAI()) as url:
        [summary] = measure(url, tmp_path, "--num-prompts", "3", "--input-len", "300")
    assert summary["mean_input_tokens"] == 310


def test_requests_say_what_was_asked_for(tmp_path: Path) -> None:
    fake = FakeOpenAI()
    more = ["--ignore-eos", "--output-len", "7", "--extra-body", '{"top_k": 3}']
    with serve(fake) as url:
        measure(url, tmp_path, "--num-prompts", "1", "--num-warmups", "0", *more)
    body = fake.bodies[-1]
    assert len(fake.bodies) == 3  # two find out how long words are
    assert (body["model"], body["max_tokens"], body["ignore_eos"]) == ("fake", 7, True)
    assert (body["temperature"], body["top_k"]) == (0.0, 3)
    assert body["stream"] and body["stream_options"] == {"include_usage": True}


def test_errors_are_counted_by_code_and_left_out_of_the_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusals = {5: (429, "queue_full"), 7: (429, "queue_full"), 9: (500, "internal_error")}
    with serve(FakeOpenAI(refusals=refusals)) as url:
        [summary] = measure(url, tmp_path, "--num-prompts", "10", "--num-warmups", "2")
    assert summary["errors"] == {"429 queue_full": 2, "500 internal_error": 1}
    assert (summary["num_requests"], summary["num_completed"]) == (10, 7)
    assert "error: 2 × 429 queue_full No." in capsys.readouterr().out


def test_an_answer_that_breaks_off_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(FakeOpenAI(breaks_off=True)) as url:
        assert main(["--base-url", url, "--num-prompts", "2"]) == 1
    assert "incomplete stream" in capsys.readouterr().err


def test_without_usage_tokens_are_unknown_rather_than_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(FakeOpenAI(has_usage=False)) as url:
        [summary] = measure(url, tmp_path, "--num-prompts", "2")
    assert summary["output_throughput"] is None
    assert "tpot" not in summary["latencies_ms"] and "ttft" in summary["latencies_ms"]
    assert "tells no usage" in capsys.readouterr().out


def test_goodput_counts_what_meets_every_limit(tmp_path: Path) -> None:
    with serve(FakeOpenAI(first_s=0.05)) as url:
        few = ("--num-prompts", "4", "--goodput")
        met, missed = (
            measure(url, tmp_path, *few, *limits)[-1]
            for limits in (("ttft:2000", "e2el:5000"), ("ttft:2000", "e2el:40"))
        )
    assert met["request_goodput"] == pytest.approx(met["request_throughput"])
    assert missed["request_goodput"] == 0


def test_a_sweep_measures_each_level_with_its_own_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake, page = FakeOpenAI(first_s=0.02), tmp_path / "page.html"
    with serve(fake) as url:
        arguments = ("--sweep", "1,2,4", "--num-prompts", "6", "--plot", str(page))
        summaries = measure(url, tmp_path, *arguments)
    assert [one["load"] for one in summaries] == [f"concurrency {level}" for level in (1, 2, 4)]
    assert fake.most_running == 4
    texts = [body["messages"][0]["content"] for body in fake.bodies]
    assert len(set(texts)) == len(texts)
    assert "sweep" in capsys.readouterr().out
    drawn = page.read_text()
    assert drawn.count("<svg") == 7 and "concurrency 4" in drawn
    assert "http" not in drawn and "<script" not in drawn


def test_json_on_standard_output_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(FakeOpenAI()) as url:
        arguments = ["--base-url", url, "--api-key", "secret", "--num-prompts", "2"]
        assert main([*arguments, "--json", "-"]) == 0
    shown = capsys.readouterr()
    line = json.loads(shown.out)
    assert line["summary"]["num_completed"] == 2 and line["options"]["num_prompts"] == 2
    assert "secret" not in shown.out
    assert "TTFT" in shown.err


def test_no_server_is_said_kindly(capsys: pytest.CaptureFixture[str]) -> None:
    assert internvl_server(["bench", "--base-url", "http://127.0.0.1:9/v1"]) == 1
    assert "No server answers at http://127.0.0.1:9/v1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--num-prompts", "0"],
        ["--request-rate", "-1"],
        ["--goodput", "itl:5"],
        ["--image-size", "15x20"],
        ["--repeat-share", "1"],
        ["--compare", "a", "b", "--sweep", "1,2"],
        ["--sweep-over", "rate"],
        ["--plot", "a.png"],
        ["--extra-body", "[]"],
    ],
)
def test_senseless_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_product_answers_every_workload(
    demo_server: str, tmp_path: Path, workload: str
) -> None:
    arguments = ["--workload", workload, "--num-prompts", "4", "--output-len", "8", "--ignore-eos"]
    arguments += ["--video-frames", "24", "--repeat-share", "0.3", "--input-len", "30"]
    [summary] = measure(demo_server, tmp_path, *arguments)
    assert (summary["num_completed"], summary["errors"]) == (4, {})
    assert summary["mean_output_tokens"] == 8
    least = {"text": 25, "image": 25 + 16, "multi-image": 25 + 3 * 16, "video": 25 + 8 * 16}
    assert summary["mean_input_tokens"] >= least.get(workload, 25)
