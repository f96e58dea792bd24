"""`internvl-server bench`: how fast is a server? For any that speaks OpenAI's chat.

Speaks HTTP only; imports neither the server nor the runtime.
"""

import asyncio
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clients.bench.compare import compare
from clients.bench.figures import Block, Summary, summarise
from clients.bench.options import Options, read_options
from clients.bench.plot import write_page
from clients.bench.report import Reporter, say
from clients.bench.run import levels
from clients.bench.wire import BenchError


def main(argv: list[str]) -> int:
    """Entry point. 0: measured; 1: no request completed, or the server cannot be measured."""
    options = read_options(argv)
    try:
        return asyncio.run(_run(options))
    except BenchError as error:
        say(str(error))
    except OSError as error:
        say(f"Cannot write the result: {error.strerror}.")
    except KeyboardInterrupt:
        say("stopped")
    return 1


async def _run(options: Options) -> int:
    reporter = Reporter(options)
    with _progress() as show:
        if options.compare:
            reporter.comparison(await compare(options, show))
            return 0
        return await _levels(options, reporter, show)


async def _levels(options: Options, reporter: Reporter, show: Progress) -> int:
    blocks: list[Block] = []
    summaries: list[Summary] = []
    async for block in levels(options, show):
        blocks.append(block)
        summaries.append(summarise(block, options.goodput))
        reporter.level(summaries[-1])
    if len(summaries) > 1:
        reporter.sweep(summaries)
    if options.plot:
        write_page(options.plot, blocks, summaries)
    return 0 if any(summary.num_completed for summary in summaries) else 1


def _progress() -> Progress:
    """A bar on standard error, and nothing at all when nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
