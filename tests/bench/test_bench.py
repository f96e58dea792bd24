"""Every bench runs, on a tiny model with few repetitions, and says something sensible."""

import dataclasses
import json
import math
from itertools import count
from pathlib import Path

import pytest
import torch

from model_runtime.checkpoint import load_checkpoint
from tests.bench import caches, decode, generate, method, overload, prefill, scheduler
from tests.bench.__main__ import NAMES, bench, run_benches
from tests.bench.shapes import SHAPES
from tests.bench.weights import prepare_checkpoint
from tests.bench.workload import QUICK, Setup


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    shape = SHAPES["tiny"]
    folder = prepare_checkpoint(shape, tmp_path_factory.mktemp("bench"))
    return Setup(shape, folder, "native", QUICK)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method, "gemm_probe", lambda: 1.0)


def require_positive(row: object, *, except_for: tuple[str, ...] = ()) -> None:
    for name, value in dataclasses.asdict(row).items():  # type: ignore[call-overload]
        if isinstance(value, float) and name not in ("probe_move", "load", "max_load", *except_for):
            assert math.isfinite(value) and value > 0, name


def test_decode_measures_every_batch(setup: Setup) -> None:
    rows = decode.run(setup)
    assert [row.batch for row in rows] == [1, 4, 16, 64]
    for row in rows:
        require_positive(row)
        assert row.tokens_per_s == pytest.approx(row.batch / row.step_ms * 1e3)


def test_prefill_and_vision_measure_against_the_matrix_product(setup: Setup) -> None:
    rows = [*prefill.run_prefill(setup), *prefill.run_vision(setup)]
    assert [row.items for row in rows] == [512, 1, 4]
    for row in rows:
        require_positive(row)
        assert row.mfu == pytest.approx(row.gflop_per_s / row.gemm_gflop_per_s)


def test_scheduler_times_the_host_alone(setup: Setup) -> None:
    rows = scheduler.run(setup)
    assert [row.running for row in rows] == [1, 16, 64, 256]
    for row in rows:
        require_positive(row)
        assert row.sum_us == pytest.approx(row.schedule_us + row.build_us + row.commit_us)
        assert row.sum_us < 1e6  # far above the limit: this machine may be busy


def test_caches_and_generate_give_ratios(setup: Setup) -> None:
    rows = [*caches.run(setup), *generate.run(setup)]
    assert len(rows) == 5
    for row in rows:
        require_positive(row)
        assert row.ratio is not None and row.low is not None and row.high is not None
        assert row.low <= row.ratio <= row.high
        assert (row.pairs, row.discarded) == (QUICK.pairs, 0)


@pytest.mark.alone
def test_overload_refuses_at_once_and_goes_on_answering(setup: Setup) -> None:
    light, heavy = overload.run(setup)
    assert (light.load, light.refused, light.failed, light.verdict) == (0.5, 0, 0, "")
    assert heavy.refused > 0 and heavy.failed == 0 and heavy.verdict
    assert heavy.good > light.offered / 2 and heavy.front_mib > 0 and heavy.worker_mib > 0
    assert heavy.refusal_p50_ms is not None and heavy.refusal_p50_ms < 1000  # may be busy here


def test_every_name_has_a_bench() -> None:
    assert all(callable(bench(name)) for name in NAMES)


def test_a_bench_prints_a_table_and_one_json_line(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lines.json"
    run_benches(setup, ["prefill"], file)
    printed = capsys.readouterr().out
    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert line in printed.splitlines() and "prompt tokens" in printed.split(line)[0]
    facts = json.loads(line)
    assert (facts["bench"], facts["shape"], len(facts["rows"])) == ("prefill", "tiny", 1)


def test_a_checkpoint_is_written_once_and_fits_its_shape(setup: Setup) -> None:
    before = (setup.folder / "model.safetensors").stat().st_mtime_ns
    assert prepare_checkpoint(setup.shape, setup.folder.parent) == setup.folder
    assert (setup.folder / "model.safetensors").stat().st_mtime_ns == before
    checkpoint = load_checkpoint(setup.folder, "tiny")
    assert checkpoint.tiles.tokens_per_tile == setup.shape.tokens_per_tile
    assert checkpoint.image_token_id == setup.shape.image_token_id
    assert checkpoint.vocab_size == setup.shape.vocab


def test_the_1b_shape_is_the_published_one() -> None:
    shape = SHAPES["1b"]
    assert shape.body_weights == pytest.approx(358e6, rel=0.01)
    assert shape.head_weights == pytest.approx(136e6, rel=0.01)
    assert shape.kv_bytes_per_token == 12 * 1024
    assert shape.image_token_id == 151667 and shape.num_text_ids == 151643
    assert shape.tile_flops() == pytest.approx(0.72e12, rel=0.05)
    assert shape.dtype is torch.bfloat16


def test_the_unmeasured_stay_out_of_the_ratio() -> None:
    """Pairs 0 and 1 are disturbed; the first block's value counts its calls."""
    calls = count()
    probes = iter([1.0, 1.0, 1.0, 1.2, *[2.0] * 3, 2.4, *[1.0, 1.1] * 8])
    result = method.compare(
        lambda: 1.0 + next(calls), lambda: 2.0, num_pairs=2, probe=lambda: next(probes)
    )
    assert (result.num_kept, result.num_discarded) == (2, 2)
    assert result.ratio is not None and result.ratio.median == pytest.approx((4 / 2 + 5 / 2) / 2)


def test_no_quiet_pair_gives_no_ratio() -> None:
    probes = count(1)
    result = method.compare(
        lambda: 1.0, lambda: 1.0, num_pairs=3, probe=lambda: 2.0 ** next(probes)
    )
    assert (result.ratio, result.num_kept, result.num_discarded) == (None, 0, 6)


def test_pairs_run_in_turns() -> None:
    order = []

    def block(name: str) -> float:
        order.append(name)
        return 3.0 if name == "A" else 2.0

    result = method.compare(lambda: block("A"), lambda: block("B"), num_pairs=4)
    assert "".join(order) == "AB" + "ABBAABBA"  # one of each to warm up
    assert result.ratio == method.Interval(1.5, 1.5, 1.5)


def test_the_interval_holds_the_median_and_shrinks_with_more_values() -> None:
    few = method.bootstrap_median([1.0, 1.2, 0.9, 1.1, 1.3])
    many = method.bootstrap_median([1.0, 1.2, 0.9, 1.1, 1.3] * 20)
    assert few.low < few.median == 1.1 < few.high
    assert many.high - many.low < few.high - few.low
    assert method.bootstrap_median([2.0]) == method.Interval(2.0, 2.0, 2.0)


@pytest.mark.parametrize(("probes", "move"), [((1.0, 1.0), 0.0), ((1.0, 1.2), 0.2)])
def test_the_probe_moves_by_the_spread_of_its_times(
    probes: tuple[float, float], move: float
) -> None:
    assert method.Watched(1.0, probes, load=0.0).probe_move == pytest.approx(move)
