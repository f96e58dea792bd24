"""What tests of the engine do with it: ask, read, kill, and look whether all is as before."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_runtime.protocol import EngineConfig, SamplingParams, StepStats, TileSet
from server.engine.client import WorkerEngine
from server.engine.stream import EngineStream
from server.engine.types import GenerationRequest
from server.media.types import PlannedMedia, PlannedTiles
from server.prompt.builder import PromptBuilder
from server.prompt.types import ChatMessage, MediaPart, TextPart

LONG = SamplingParams(max_tokens=1500, temperature=0.0, ignore_eos=True)
SHORT = SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)


def make_engine(
    folder: Path,
    prompts: PromptBuilder,
    *,
    stall_timeout_s: float = 60.0,
    on_step: Callable[[StepStats], None] = lambda stats: None,
    **config: Any,
) -> WorkerEngine:
    return WorkerEngine(
        EngineConfig(checkpoint_path=str(folder), device="cpu", **config),
        model_id="tiny",
        make_detokenizer=prompts.detokenizer,
        stall_timeout_s=stall_timeout_s,
        on_step=on_step,
    )


@asynccontextmanager
async def running(engine: WorkerEngine) -> AsyncIterator[WorkerEngine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def request(
    prompts: PromptBuilder,
    name: str,
    sampling: SamplingParams = SHORT,
    stop: tuple[str, ...] = (),
    *,
    text: str = "Hello",
    seconds: float | None = None,
) -> GenerationRequest:
    """`seconds`: until its deadline."""
    prompt = prompts.build([ChatMessage("user", [TextPart(text)])])
    deadline = None if seconds is None else time.monotonic() + seconds
    return GenerationRequest(name, prompt, sampling, stop, deadline_s=deadline)


def picture_request(
    prompts: PromptBuilder, name: str, text: str = "Hello", content_hash: bytes = b"picture"
) -> GenerationRequest:
    media = PlannedMedia("image", (PlannedTiles(content_hash, 1),))
    prompt = prompts.build([ChatMessage("user", [TextPart(text), MediaPart(media)])])
    prompt = replace(prompt, tiles=[TileSet(content_hash, 1, bytes(56 * 56 * 3))])
    return GenerationRequest(name, prompt, SamplingParams(max_tokens=4, temperature=0.0))


async def read(stream: EngineStream) -> tuple[str, int, str | None]:
    """The text, the number of tokens, the finish reason."""
    text, count, reason = "", 0, None
    async for delta in stream:
        text, count, reason = text + delta.text, count + delta.num_tokens, delta.finish_reason
    return text, count, reason


async def outcome(stream: EngineStream) -> str:
    """The finish reason, or the code of the error."""
    try:
        return (await read(stream))[2] or "nothing"
    except Exception as error:
        return str(getattr(error, "code", error))


async def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> float:
    """Wait for it; returns how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, what
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def until_ready(engine: WorkerEngine) -> float:
    return await until(lambda: engine.health().is_ready, "no new worker")


async def until_down(engine: WorkerEngine) -> float:
    return await until(lambda: not engine.health().is_ready, "still ready")


def worker_pid(engine: WorkerEngine) -> int:
    pid = engine._workers.pid
    assert pid is not None
    return pid


def hit(engine: WorkerEngine, number: signal.Signals = signal.SIGKILL) -> int:
    """Send the worker a signal; returns its process id."""
    pid = worker_pid(engine)
    os.kill(pid, number)
    return pid


def is_running(pid: int) -> bool:
    """Zombies are not: whoever adopted them may be slow to ask for their end."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def assert_as_before(engine: WorkerEngine, prompts: PromptBuilder) -> None:
    """The common end check: ready, serves, owes nothing, holds nothing."""
    await until_ready(engine)
    assert (await read(engine.submit(request(prompts, "the next one"))))[1] == 5
    assert len(engine._live) == 0

    def is_empty() -> bool:
        stats = engine.health().stats
        return (
            stats is not None
            and stats.num_running == stats.num_waiting == 0
            and stats.num_free_blocks == stats.num_blocks
        )

    await until(is_empty, "blocks or seats are not given back")
    others = {task.get_name() for task in asyncio.all_tasks()} & {"engine", "watchdog"}
    assert others == {"engine", "watchdog"}
    assert sum(task.get_name() == "watchdog" for task in asyncio.all_tasks()) == 1
