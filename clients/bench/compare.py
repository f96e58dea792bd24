"""Two servers in turns, A B B A A B ...: ratios of neighbours outlive a noisy machine."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import Progress

from clients.bench.figures import Summary, percentile, summarise
from clients.bench.options import Options
from clients.bench.run import aim, prepare
from clients.bench.wire import BenchError, Server

_NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure on both sides: medians of the blocks, and of the pairs' ratios A / B."""

    figure: str
    a: float
    b: float
    ratio: float
    low: float  # bootstrap 90 % interval of the median ratio
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    load: str
    models: tuple[str, str]
    ratios: tuple[Ratio, ...]
    blocks_a: tuple[Summary, ...]
    blocks_b: tuple[Summary, ...]


async def compare(options: Options, show: Progress) -> Comparison:
    """Both get the same messages, new ones in each pair. Raises BenchError."""
    assert options.compare is not None
    url_a, url_b = options.compare
    async with (
        Server(url_a, options.api_key, options.timeout) as server_a,
        Server(url_b, options.api_key, options.timeout) as server_b,
    ):
        targets = [await aim(server_a, options), await aim(server_b, options)]
        num_words = await targets[0].num_words()
        await targets[1].num_words()  # fails now rather than in the middle
        blocks: tuple[list[Summary], list[Summary]] = ([], [])
        for pair in range(options.pairs):
            messages, warmups = prepare(options, pair, num_words, show)
            for side in (0, 1) if pair % 2 == 0 else (1, 0):
                measured = await targets[side].measure(options.loads[0], messages, warmups, show)
                blocks[side].append(summarise(measured, options.goodput))
    return Comparison(
        load=options.loads[0].label,
        models=(targets[0].model, targets[1].model),
        ratios=tuple(ratios(blocks[0], blocks[1], options.shape.seed)),
        blocks_a=tuple(blocks[0]),
        blocks_b=tuple(blocks[1]),
    )


def ratios(blocks_a: Sequence[Summary], blocks_b: Sequence[Summary], seed: int) -> list[Ratio]:
    """Of every figure that each block has. Raises BenchError when no request completed."""
    if not all(block.num_completed for block in [*blocks_a, *blocks_b]):
        errors = [code for block in [*blocks_a, *blocks_b] for code in block.errors]
        raise BenchError(f"A block had no completed request ({', '.join(sorted(set(errors)))}).")
    sides = [list(map(_figures, blocks)) for blocks in (blocks_a, blocks_b)]
    shared = [name for name in sides[0][0] if all(name in block for block in sides[0] + sides[1])]
    return [
        _ratio(name, [block[name] for block in sides[0]], [block[name] for block in sides[1]], seed)
        for name in shared
    ]


def _figures(block: Summary) -> dict[str, float]:
    found = {"requests/s": block.request_throughput}
    if block.output_throughput is not None:
        found["output tokens/s"] = block.output_throughput
    if block.request_goodput is not None:
        found["goodput, requests/s"] = block.request_goodput
    medians = {f"{name} p50, ms": values["p50"] for name, values in block.latencies_ms.items()}
    return {name: value for name, value in (found | medians).items() if value > 0}


def _ratio(figure: str, of_a: list[float], of_b: list[float], seed: int) -> Ratio:
    pairs = [a / b for a, b in zip(of_a, of_b, strict=True)]
    low, high = interval(pairs, seed)
    a, b = statistics.median(of_a), statistics.median(of_b)
    return Ratio(figure, a, b, statistics.median(pairs), low, high)


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Bootstrap 90 % interval of the median."""
    chance = random.Random(f"{seed}/bootstrap")
    medians = sorted(
        statistics.median(chance.choices(values, k=len(values))) for _ in range(_NUM_RESAMPLES)
    )
    return percentile(medians, 5), percentile(medians, 95)
