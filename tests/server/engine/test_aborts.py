"""Clients that leave: at each moment the request ends within a step and gives everything back.

Rows F33 to F36 of the fault table.
"""

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

from model_runtime.protocol import ErrorKind, SequenceOutput, StepStats
from server.engine.answer_text import AnswerText
from server.engine.client import WorkerEngine
from server.engine.stream import EngineStream
from server.prompt.builder import PromptBuilder
from server.prompt.stop_strings import StopStringMatcher
from tests.server.engine.driving import (
    LONG,
    assert_as_before,
    make_engine,
    outcome,
    read,
    request,
    running,
    until,
)


async def test_f33_while_queued(tiny_checkpoint: Path, prompts: PromptBuilder) -> None:
    steps: list[StepStats] = []
    engine = make_engine(tiny_checkpoint, prompts, max_num_seqs=1, on_step=steps.append)
    async with running(engine):
        runs = engine.submit(request(prompts, "runs", LONG))
        await anext(runs)
        steps.clear()
        for number in range(20):
            engine.submit(request(prompts, f"q{number}", LONG)).abort()
        runs.abort()
        await until(lambda: steps and steps[-1].num_running == 0, "it still runs")
        assert sum(step.num_prefill_tokens for step in steps) == 0
        await assert_as_before(engine, prompts)


@pytest.mark.alone  # else the worker gets further than the test can see
async def test_f34_in_a_long_prompt(tiny_checkpoint: Path, prompts: PromptBuilder) -> None:
    """Computed in many chunks, of which few follow the end."""
    steps: list[StepStats] = []  # since it began

    def on_step(stats: StepStats) -> None:
        if stats.num_prefill_tokens and not steps:
            stream.abort()
        if stats.num_prefill_tokens or steps:
            steps.append(stats)

    engine = make_engine(
        tiny_checkpoint, prompts, max_num_seqs=4, max_num_batched_tokens=16, on_step=on_step
    )
    async with running(engine):
        stream = engine.submit(request(prompts, "a", LONG, text="many words " * 120))
        await until(lambda: steps and steps[-1].num_running == 0, "it still runs")
        assert len(steps) <= 6  # it, those on their way, and the report
        assert sum(step.num_decode_tokens for step in steps) == 0
        await assert_as_before(engine, prompts)


@pytest.mark.parametrize("n", [1, 4])
async def test_f35_while_decoding(engine: WorkerEngine, prompts: PromptBuilder, n: int) -> None:
    asked = dataclasses.replace(request(prompts, "a", LONG), n=n)
    stream = engine.submit(asked)
    seen: set[int] = set()
    while len(seen) < n:
        seen.add((await anext(stream)).index)
    stream.abort()
    await assert_as_before(engine, prompts)
    stats = engine.health().stats
    assert stats is not None and stats.step < 500


async def test_f36_when_the_end_and_the_abort_cross(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    """A thousand of them, at random moments around their end."""
    numbers = random.Random(5)
    alone = await read(engine.submit(request(prompts, "alone")))

    async def one(name: str) -> None:
        stream = engine.submit(request(prompts, name))
        reading = asyncio.create_task(read(stream))
        await asyncio.wait([reading], timeout=numbers.random() * 0.3)
        stream.abort()
        if reading.done():
            assert reading.result() == alone
        else:
            reading.cancel()

    for number in range(50):
        await asyncio.gather(*(one(f"r{number}-{i}") for i in range(20)))
    await assert_as_before(engine, prompts)
    assert engine.counts().num_worker_restarts == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("failure", "engine_error"),
        ("refusal", "invalid_request"),
        ("no_memory", "server_overloaded"),
        ("not_finite", "numerical_error"),
    ],
)
async def test_what_failed_is_told_by_its_kind(kind: ErrorKind, code: str) -> None:
    class NoText:
        def add(self, token_ids: object) -> str:
            return ""

        def finish(self) -> str:
            return ""

    answer = AnswerText(0, NoText(), StopStringMatcher(()))
    stream = EngineStream("r", [answer], lambda request_id, index: None)
    stream.push(SequenceOutput("r", [], "error", "It failed.", kind))
    assert await outcome(stream) == code
