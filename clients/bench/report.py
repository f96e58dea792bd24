"""What a person reads (tables) and what a program reads (JSON lines)."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clients.bench.compare import Comparison
from clients.bench.figures import PERCENTILES, Summary
from clients.bench.options import Options

_BUSY_CLIENT = 0.8  # of a core; beyond, this client's own slowness shows in the figures
_NAMES = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "E2E"}


class Reporter:
    """Tables go to standard output, or to standard error when JSON lines go there."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._console = Console(stderr=options.json_file == "-", highlight=False)

    def level(self, summary: Summary) -> None:
        self._console.print(_level_table(summary))
        for line in _remarks(summary):
            self._console.print(line, soft_wrap=True, markup=False)
        self._write({"summary": dataclasses.asdict(summary)})

    def sweep(self, summaries: Sequence[Summary]) -> None:
        self._console.print(_sweep_table(summaries))

    def comparison(self, found: Comparison) -> None:
        self._console.print(_comparison_table(found, self._options))
        for side, blocks in (("A", found.blocks_a), ("B", found.blocks_b)):
            for line in {line: None for block in blocks for line in _remarks(block)}:
                self._console.print(f"{side}: {line}", soft_wrap=True, markup=False)
        self._write({"comparison": dataclasses.asdict(found)})

    def _write(self, result: dict[str, Any]) -> None:
        line = json.dumps(_header(self._options) | result)
        if self._options.json_file == "-":
            print(line, flush=True)
        elif self._options.json_file is not None:
            with Path(self._options.json_file).open("a", encoding="utf-8") as lines:
                lines.write(line + "\n")


def _header(options: Options) -> dict[str, Any]:
    """When, and all that was asked for except the key."""
    asked = dataclasses.asdict(options)
    for name in ("api_key", "json_file", "plot", "loads"):
        del asked[name]
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "options": asked}


def _level_table(summary: Summary) -> Table:
    title = f"{summary.load}: {summary.num_completed} of {summary.num_requests} requests"
    table = Table(title=f"{title} in {summary.seconds:.2f} s", title_justify="left")
    table.add_column("")
    for name in ("mean", *(f"p{percent}" for percent in PERCENTILES)):
        table.add_column(name, justify="right")
    for name, values in summary.latencies_ms.items():
        table.add_row(f"{_label(name)}, ms", *(f"{value:.2f}" for value in values.values()))
    for name, value in _rates(summary).items():
        table.add_row(name, _number(value))
    return table


def _rates(summary: Summary) -> dict[str, float]:
    rates = {
        "requests/s": summary.request_throughput,
        "output tokens/s": summary.output_throughput,
        "goodput, requests/s": summary.request_goodput,
        "input tokens": summary.mean_input_tokens,
        "output tokens": summary.mean_output_tokens,
    }
    return {name: value for name, value in rates.items() if value is not None}


def _remarks(summary: Summary) -> list[str]:
    lines = [
        f"error: {count} × {code} {summary.error_messages.get(code, '')}".rstrip()
        for code, count in summary.errors.items()
    ]
    if summary.num_completed and summary.mean_output_tokens is None:
        lines.append("note: the server tells no usage, so that tokens are unknown")
    if summary.client_cpu_share > _BUSY_CLIENT:
        share = f"{summary.client_cpu_share:.0%} of a core"
        lines.append(f"note: this client used {share}; it may have slowed what it measured")
    return lines


def _sweep_table(summaries: Sequence[Summary]) -> Table:
    table = Table(title="sweep", title_justify="left")
    table.add_column("load")
    for name in ("requests/s", "tokens/s", "goodput", "TTFT p50", "p99", "TPOT p50", "p99"):
        table.add_column(name, justify="right")
    table.add_column("errors", justify="right")
    for one in summaries:
        rates = (one.request_throughput, one.output_throughput, one.request_goodput)
        latencies = (
            one.latencies_ms.get(name, {}).get(percent)
            for name in ("ttft", "tpot")
            for percent in ("p50", "p99")
        )
        errors = str(sum(one.errors.values()))
        table.add_row(one.load, *map(_number, (*rates, *latencies)), errors)
    return table


def _comparison_table(found: Comparison, options: Options) -> Table:
    title = f"A / B, {found.load}, {options.pairs} pairs of {options.num_prompts} requests"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("A", "B", "ratio", "90 % interval"):
        table.add_column(name, justify="right")
    for one in found.ratios:
        span = f"{one.low:.3f} to {one.high:.3f}"
        table.add_row(_label(one.figure), _number(one.a), _number(one.b), f"{one.ratio:.3f}", span)
    return table


def _label(figure: str) -> str:
    name, _, rest = figure.partition(" ")
    return f"{_NAMES.get(name, name)} {rest}".strip()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def say(message: str) -> None:
    print(f"internvl-server bench: {message}", file=sys.stderr)
