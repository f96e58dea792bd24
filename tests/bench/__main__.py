"""Benchmarks on the CPU: of the engine with random weights, the media path, and overload.

    python -m tests.bench [--shape small] [--only decode,prefill] [--json FILE]

Prints a table and a JSON line per bench. `media` and `overload` start a server with the demo
model. Weights are made once under `runs/bench/`; run it from the project's folder.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model_runtime.environment import COMPUTE_ENVIRONMENT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance as Row

    from tests.bench.workload import Setup

NAMES = ("scheduler", "decode", "prefill", "vision", "cache", "generate", "media", "overload")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    _limit_threads(options.threads)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("tests.bench").setLevel(logging.INFO)
    run_benches(_setup(options), options.only, options.json)


def run_benches(setup: "Setup", names: Sequence[str], file: Path | None) -> None:
    from tests.bench.report import json_line, print_table

    for name in names:
        rows = bench(name)(setup)
        line = json_line(name, setup, rows)
        print_table(f"{name}, shape {setup.shape.name}", rows)
        print(line, flush=True)
        if file is not None:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(line + "\n")


def bench(name: str) -> Callable[["Setup"], Sequence["Row"]]:
    from tests.bench import caches, decode, generate, media, overload, prefill, scheduler

    benches: dict[str, Callable[[Setup], Sequence[Row]]] = {
        "scheduler": scheduler.run,
        "decode": decode.run,
        "prefill": prefill.run_prefill,
        "vision": prefill.run_vision,
        "cache": caches.run,
        "generate": generate.run,
        "media": media.run,
        "overload": overload.run,
    }
    return benches[name]


def _setup(options: argparse.Namespace) -> "Setup":
    from tests.bench.shapes import SHAPES
    from tests.bench.weights import prepare_checkpoint
    from tests.bench.workload import QUICK, THOROUGH, Setup

    shape = SHAPES[options.shape]
    effort = QUICK if options.quick else THOROUGH
    return Setup(shape, prepare_checkpoint(shape), options.model_impl, effort)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--shape", choices=("tiny", "small", "1b"), default="small")
    parser.add_argument("--only", type=_names, default=NAMES, metavar="NAME,...", help=f"{NAMES}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the JSON lines to FILE")
    parser.add_argument("--model-impl", choices=("native", "transformers"), default="native")
    parser.add_argument("--threads", type=int, help="torch's threads (default: all cores but one)")
    parser.add_argument("--quick", action="store_true", help="to see that it runs: few repetitions")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return names or NAMES


def _limit_threads(num_threads: int | None) -> None:
    """As the worker does, before torch is imported: threads that spin would steal from others."""
    num_threads = num_threads or max(1, (os.cpu_count() or 2) - 1)
    os.environ["OMP_NUM_THREADS"] = str(num_threads)


def _enter_worker_environment() -> None:
    """Start again as the worker is started: the heap's settings count from the first moment."""
    missing = {name: v for name, v in COMPUTE_ENVIRONMENT.items() if name not in os.environ}
    if missing:
        command = [sys.executable, "-m", "tests.bench", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **missing})


if __name__ == "__main__":
    _enter_worker_environment()
    main()
