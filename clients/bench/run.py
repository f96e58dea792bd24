"""One server under one load after another."""

import time
from collections.abc import AsyncIterator, Sequence

from rich.progress import Progress

from clients.bench.answer import Record, read_answer
from clients.bench.figures import Block
from clients.bench.load import drive
from clients.bench.options import Load, Options
from clients.bench.wire import BenchError, Server
from clients.bench.workload import Part, body, content, plan, vocabulary

_PROBES = (1, 4)  # times the vocabulary
_WARMUP_INDEX = -1_000_000  # far from the measured requests, so that they share nothing

Message = str | list[Part]


class Target:
    """A server, the model asked for, and how to ask."""

    def __init__(self, server: Server, model: str, options: Options) -> None:
        self._server = server
        self._model = model
        self._options = options

    @property
    def model(self) -> str:
        return self._model

    async def num_words(self) -> int:
        """Words that make up --input-len tokens here, by the server's own count.

        Raises BenchError when the server does not answer as it should.
        """
        few, many = [(await self._probe(vocabulary(times))).input_tokens for times in _PROBES]
        if few is None or many is None or many <= few:
            return self._options.shape.input_len  # no usage: a token a word
        more_words = len(vocabulary(_PROBES[1]).split()) - len(vocabulary(_PROBES[0]).split())
        return max(1, round(self._options.shape.input_len * more_words / (many - few)))

    async def measure(
        self, load: Load, messages: Sequence[Message], warmups: Sequence[Message], show: Progress
    ) -> Block:
        """Warm up, then send the messages as the load says."""
        options = self._options
        ready, bodies = self._bodies(warmups), self._bodies(messages)
        await drive(self._server.send, ready, Load(load.concurrency or len(ready)))
        bar = show.add_task(load.label, total=len(bodies))
        before, cpu_before = time.perf_counter(), time.process_time()
        stamped = await drive(
            self._server.send,
            bodies,
            load,
            duration=options.duration,
            seed=options.shape.seed,
            on_done=lambda: show.advance(bar),
        )
        cpu_s, wall_s = time.process_time() - cpu_before, time.perf_counter() - before
        show.remove_task(bar)
        return Block(load, tuple(map(read_answer, stamped)), cpu_s / wall_s)

    def _bodies(self, messages: Sequence[Message]) -> list[bytes]:
        options = self._options
        return [body(self._model, m, options.output_len, options.body) for m in messages]

    async def _probe(self, words: str) -> Record:
        request = body(self._model, words, 1, self._options.body)
        record = read_answer(await self._server.send(request))
        if record.error:
            raise BenchError(f"The first request failed: {record.error}. {record.message or ''}")
        return record


async def levels(options: Options, show: Progress) -> AsyncIterator[Block]:
    """Raises BenchError when the server cannot be measured at all."""
    async with Server(options.base_url, options.api_key, options.timeout) as server:
        target = await aim(server, options)
        num_words = await target.num_words()
        for number, load in enumerate(options.loads):
            messages, warmups = prepare(options, number, num_words, show)
            yield await target.measure(load, messages, warmups, show)


async def aim(server: Server, options: Options) -> Target:
    return Target(server, options.model or await server.first_model(), options)


def prepare(
    options: Options, number: int, num_words: int, show: Progress
) -> tuple[list[Message], list[Message]]:
    """A level's (or a pair's) messages and its warm-up's; no two levels share any."""
    shape, count = options.shape, options.num_prompts
    plans = plan(shape, number * count, count)
    warmups = plan(shape, _WARMUP_INDEX + number * options.num_warmups, options.num_warmups)
    bar = show.add_task("preparing", total=len(plans) + len(warmups))
    made: list[Message] = []
    for request in [*plans, *warmups]:
        made.append(content(shape, request, num_words))
        show.advance(bar)
    show.remove_task(bar)
    return made[: len(plans)], made[len(plans) :]
