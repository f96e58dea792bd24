"""`internvl-server batch IN OUT`: many conversations at once, resumable, in order.

Speaks HTTP only; imports neither the server nor the runtime.
"""

import argparse
import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
from tqdm import tqdm

from clients.batch.journal import Journal
from clients.batch.lines import LineError, custom_id, read_job
from clients.batch.send import Sender, encode, failed
from clients.target import (
    ClientError,
    add_target_arguments,
    first_model,
    key_header,
    unreachable,
)


def main(argv: list[str]) -> int:
    """Entry point. 0: all well; 1: not finished, run it again; 3: finished, some lines failed."""
    given = make_parser().parse_args(argv)
    status = 1
    try:
        status = asyncio.run(_run(given))
    except* ClientError as errors:
        sys.stderr.write(f"{errors.exceptions[0]}\n")
    except* OSError as errors:
        sys.stderr.write(f"Cannot read or write: {errors.exceptions[0]}\n")
    except* KeyboardInterrupt:
        sys.stderr.write("Stopped; the same command goes on from here.\n")
    return status


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="internvl-server batch", description="Ask a server every line of a JSONL file."
    )
    parser.add_argument("input", type=Path, metavar="IN")
    parser.add_argument("output", type=Path, metavar="OUT")
    add_target_arguments(parser)
    parser.add_argument("--concurrency", type=int, default=32, help="requests at once (32)")
    parser.add_argument("--retries", type=int, default=5, help="of a request that failed (5)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for an answer (600)")
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds to wait for a busy or absent server"
    )
    return parser


async def _run(given: argparse.Namespace) -> int:
    """Raises ClientError, or a group of them, when it cannot go on."""
    if given.output.exists():
        raise ClientError(f"{given.output} exists already; remove it or name another.")
    digest, count = _measure(given.input)
    with Journal(given.output, f"{digest} {given.model or ''}".encode()) as journal:
        async with _connect(given) as http:
            named = await _check(http, given.base_url)
            sender = Sender(http, given.base_url, given.retries, given.patience)
            await _ask_all(given, sender, journal, count, named)
        journal.finish()
    return _report(given.output)


def _connect(given: argparse.Namespace) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers=key_header(given.api_key),
        timeout=httpx.Timeout(given.timeout, connect=10, pool=None),
        limits=httpx.Limits(max_connections=given.concurrency, keepalive_expiry=3),
    )


async def _check(http: httpx.AsyncClient, base_url: str) -> str:
    """The server's first model. Raises ClientError for a wrong address or key."""
    try:
        return first_model(await http.get(f"{base_url.rstrip('/')}/models"))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(base_url) from error


async def _ask_all(
    given: argparse.Namespace, sender: Sender, journal: Journal, count: int, default: str
) -> None:
    done = journal.done
    waiting = ((n, line) for n, line in _lines(given.input) if n not in done)
    with tqdm(total=count, initial=len(done), unit="line", disable=None) as bar:

        async def client() -> None:
            for number, line in waiting:  # shared: each line goes to the client that is free
                journal.add(number, await _one(given, sender, number, line, default))
                bar.update()

        async with asyncio.TaskGroup() as clients:
            for _ in range(min(given.concurrency, count)):
                clients.create_task(client())


async def _one(
    given: argparse.Namespace, sender: Sender, number: int, line: bytes, default: str
) -> bytes:
    try:
        job = read_job(line, number, given.input.parent, given.model)
    except LineError as error:
        return encode(failed(custom_id(line, number), "invalid_line", str(error)))
    job.body.setdefault("model", default)
    return encode(await sender.send(job))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """With their numbers from 0 on; empty ones are none."""
    with path.open("rb") as file:
        yield from ((n, line) for n, line in enumerate(file) if line.strip())


def _measure(path: Path) -> tuple[str, int]:
    """A fingerprint of the input, and how many lines it has."""
    digest, count = hashlib.sha256(), 0
    for _, line in _lines(path):
        digest.update(line)
        count += 1
    return digest.hexdigest(), count


def _report(path: Path) -> int:
    """Tell the sums on standard error; the exit status."""
    sums: Counter[str] = Counter()
    for _, line in _lines(path):
        answer = json.loads(line)
        sums["failed" if answer["error"] else "ok"] += 1
        body = (answer["response"] or {}).get("body") or {}
        usage = body.get("usage") or {} if isinstance(body, dict) else {}
        sums["prompt"] += usage.get("prompt_tokens") or 0
        sums["completion"] += usage.get("completion_tokens") or 0
    tokens = f"{sums['prompt']} + {sums['completion']} tokens"
    sys.stderr.write(f"{sums['ok']} ok, {sums['failed']} failed; {tokens}\n")
    return 3 if sums["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
