"""A long time of mixed requests against a real server, with clients and workers that go away.

    python -m tests.soak [--seconds 600] [--clients 16] [--kills 2] [--seed 1]

Nothing may be lost, wrong or leaked. Prints a table and a line of JSON; ends with 1 on failure.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tests.served import Served
from tests.soak.material import gather
from tests.soak.run import Effort, Soak
from tests.soak.verdict import Verdict, verdict

_SMALL_CACHES = (  # full after the warm-up, so that what grows later is a leak
    "--kv-cache-memory-bytes=64MiB",
    "--mm-processor-cache-bytes=4MiB",
    "--mm-embedding-cache-bytes=1MiB",
    "--response-store-bytes=8MiB",
)
_NUM_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    effort = Effort(
        seconds=options.seconds,
        warm_up_s=max(5.0, min(60.0, options.seconds / 6)),
        num_clients=options.clients,
        num_kills=options.kills,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        result = soak(effort, Path(options.log or f"{folder}/server.log"))
    print_verdict(result)
    print(json.dumps(_facts(effort, result)), flush=True)
    return 0 if result.is_good else 1


def soak(effort: Effort, log: Path) -> Verdict:
    console = Console(stderr=True)
    material = gather(effort.seed, per_kind=2 if effort.seconds >= 300 else 1)
    with console.status("starting") as status, Served(log, _SMALL_CACHES) as server:
        run = Soak(server, material, effort, tell=status.update)
        record = asyncio.run(run.run())
        exit_status = server.end()
    return verdict(record, log.read_text(encoding="utf-8", errors="replace"), exit_status)


def print_verdict(result: Verdict) -> None:
    console = Console(width=140)
    table = Table(title="soak", title_justify="left", box=SIMPLE)
    for field in dataclasses.fields(result.rows[0]):
        table.add_column(field.name, justify="right")
    for row in result.rows:
        table.add_row(*("-" if value is None else str(value) for value in _cells(row)))
    console.print(table)
    console.print(f"held before  {dataclasses.asdict(result.before)}", highlight=False)
    console.print(f"held after   {dataclasses.asdict(result.after)}", highlight=False)
    for fault in (*result.faults[:_NUM_SHOWN], *result.leaks):
        console.print(f"WRONG  {fault}", markup=False, highlight=False, overflow="fold")
    more = len(result.faults) - _NUM_SHOWN
    if more > 0:
        console.print(f"and {more} more")
    console.print("good" if result.is_good else "FAILED")


def _cells(row: object) -> list[object]:
    return list(dataclasses.asdict(row).values())  # type: ignore[call-overload]


def _facts(effort: Effort, result: Verdict) -> dict[str, object]:
    faults = {"num_faults": len(result.faults), "faults": result.faults[:_NUM_SHOWN]}
    told = dataclasses.asdict(result) | faults
    return {"soak": "good" if result.is_good else "failed", **dataclasses.asdict(effort), **told}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kills", type=int, default=2, help="of the worker; three end the service")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", metavar="FILE", help="where the server's log is kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
