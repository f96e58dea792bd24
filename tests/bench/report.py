"""Rows for people and for programs: a table, and one JSON line per bench."""

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tests.bench.workload import Setup

if TYPE_CHECKING:
    from _typeshed import DataclassInstance as Row  # of words and numbers; names carry the units


def print_table(title: str, rows: Sequence["Row"]) -> None:
    names = list(dataclasses.asdict(rows[0]))
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(getattr(row, name)) for name in names))
    Console(width=160).print(table)


def json_line(bench: str, setup: Setup, rows: Sequence["Row"]) -> str:
    facts = {
        "bench": bench,
        "shape": setup.shape.name,
        "dtype": str(setup.shape.dtype).removeprefix("torch."),
        "model_impl": setup.model_impl,
        "threads": torch.get_num_threads(),
        "cpu": _cpu_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": _commit(),
        "effort": dataclasses.asdict(setup.effort),
        "load": os.getloadavg()[0],
        "rows": [_rounded(row) for row in rows],
    }
    return json.dumps(facts)


def _rounded(row: "Row") -> dict[str, object]:
    """Six digits: more than any clock here is worth."""
    values = dataclasses.asdict(row).items()
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values}


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _commit() -> str:
    """The commit measured, with "+" when the files differ from it."""
    try:
        describe = ["git", "describe", "--always", "--dirty=+"]
        return subprocess.check_output(describe, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
