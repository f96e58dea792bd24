"""The engine client with a real worker process and a tiny model."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from model_runtime.checkpoint import load_checkpoint
from model_runtime.protocol import AddRequest, EngineConfig, MediaSpan, SamplingParams, TileSet
from server.engine.client import WorkerEngine, WorkerLoadError
from server.engine.types import GenerationRequest
from server.errors import EngineError, UnavailableError
from server.media.types import PlannedMedia, PlannedTiles
from server.prompt.builder import PromptBuilder
from server.prompt.types import ChatMessage, MediaPart, TextPart

LONG = SamplingParams(max_tokens=1500, temperature=0.0, ignore_eos=True)


@pytest.fixture
def prompts(tiny_checkpoint: Path) -> PromptBuilder:
    return PromptBuilder(load_checkpoint(tiny_checkpoint, "tiny"), 2048)


@pytest.fixture
async def engine(tiny_checkpoint: Path, prompts: PromptBuilder) -> AsyncIterator[WorkerEngine]:
    engine = WorkerEngine(
        EngineConfig(checkpoint_path=str(tiny_checkpoint), device="cpu"),
        model_id="tiny",
        make_detokenizer=prompts.detokenizer,
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def request(
    prompts: PromptBuilder, name: str, sampling: SamplingParams, stop: tuple[str, ...] = ()
) -> GenerationRequest:
    prompt = prompts.build([ChatMessage("user", [TextPart("Hello")])])
    return GenerationRequest(name, prompt, sampling, stop)


async def read(stream: object) -> tuple[str, int, str | None]:
    text, count, reason = "", 0, None
    async for delta in stream:  # type: ignore[attr-defined]
        text, count, reason = text + delta.text, count + delta.num_tokens, delta.finish_reason
    return text, count, reason


async def until(condition: object, what: str) -> None:
    for _ in range(600):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


async def test_answers_abort_and_free_their_blocks(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    """Same answer alone and among others; a client that leaves gives everything back."""
    short = SamplingParams(max_tokens=9, temperature=0.0)
    alone = await read(engine.submit(request(prompts, "a", short)))
    assert alone[1] == 9 and alone[2] == "length"
    leaving = engine.submit(request(prompts, "b", LONG))
    beside = await read(engine.submit(request(prompts, "c", short)))
    assert beside == alone
    leaving.abort()
    leaving.abort()
    again = await read(engine.submit(request(prompts, "d", short)))
    assert again == alone
    stats = engine.health().stats
    assert stats is not None and stats.num_running == 0
    assert stats.num_free_blocks == stats.num_blocks


async def cached_tokens(engine: WorkerEngine, asked: GenerationRequest) -> int:
    return [delta.num_cached_tokens async for delta in engine.submit(asked)][-1]


async def test_prompts_are_shared_only_under_equal_salts(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    message = ChatMessage("user", [TextPart("Hello again and again " * 8)])
    params = SamplingParams(max_tokens=1, temperature=0.0)

    def ask(name: str, salt: str) -> GenerationRequest:
        return GenerationRequest(name, prompts.build([message]), params, cache_salt=salt)

    assert await cached_tokens(engine, ask("a", "one")) == 0
    assert await cached_tokens(engine, ask("b", "two")) == 0
    assert await cached_tokens(engine, ask("c", "")) == 0
    assert await cached_tokens(engine, ask("d", "one")) > 0


async def test_a_stop_string_cuts_the_answer_and_ends_the_request(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    params = SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
    text, _, _ = await read(engine.submit(request(prompts, "a", params)))
    stop = text[8:11]
    cut = await read(engine.submit(request(prompts, "b", params, (stop,))))
    assert cut[0] == text[: text.index(stop)] and cut[2] == "stop"
    await until(lambda: engine.health().stats.num_running == 0, "still running")  # type: ignore[union-attr]


def picture_request(prompts: PromptBuilder, name: str, text: str = "Hello") -> GenerationRequest:
    tiles = TileSet(b"picture", 1, bytes(56 * 56 * 3))
    planned = (PlannedTiles(tiles.content_hash, tiles.num_tiles),)
    media = MediaPart(PlannedMedia("image", planned))
    prompt = prompts.build([ChatMessage("user", [TextPart(text), media])])
    prompt = replace(prompt, tiles=[tiles])
    return GenerationRequest(name, prompt, SamplingParams(max_tokens=4, temperature=0.0))


def record_sent(engine: WorkerEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tile sets each request carries that is sent from now on."""
    assert engine._worker is not None
    sent: list[int] = []
    send = engine._worker.send

    def record(message: AddRequest) -> None:
        sent.append(len(message.tiles))
        send(message)

    monkeypatch.setattr(engine._worker, "send", record)
    return sent


async def test_a_picture_seen_before_is_not_sent_again(
    engine: WorkerEngine, prompts: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = record_sent(engine, monkeypatch)
    first = await read(engine.submit(picture_request(prompts, "a")))
    again = await read(engine.submit(picture_request(prompts, "b")))
    assert first == again and sent == [1, 0]


async def test_a_picture_that_the_worker_dropped_is_sent_after_all(
    engine: WorkerEngine, prompts: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front end believes the worker holds it; the answer comes nevertheless."""
    expected = await read(engine.submit(picture_request(prompts, "a", "Other words")))
    other = picture_request(prompts, "b")
    renamed = TileSet(b"unknown", 1, other.prompt.tiles[0].pixels)
    spans = [MediaSpan(s.start, s.num_tokens, b"unknown") for s in other.prompt.spans]
    prompt = dataclasses.replace(other.prompt, tiles=[renamed], spans=spans)
    engine._held_media.add(b"unknown")
    sent = record_sent(engine, monkeypatch)
    answer = await read(engine.submit(dataclasses.replace(other, prompt=prompt)))
    assert sent == [0, 1] and answer[1] == expected[1] == 4


async def test_a_dead_worker_fails_its_requests_and_is_replaced(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    stream = engine.submit(request(prompts, "a", LONG))
    await anext(aiter(stream))
    assert engine._worker is not None
    os.kill(engine._worker.pid, signal.SIGKILL)
    with pytest.raises(EngineError):
        await read(stream)
    with pytest.raises(UnavailableError):
        engine.submit(request(prompts, "b", LONG))
    assert not engine.health().is_ready
    await until(lambda: engine.health().is_ready, "no new worker")
    assert engine.num_restarts == 1
    answer = await read(
        engine.submit(request(prompts, "c", SamplingParams(max_tokens=3, temperature=0.0)))
    )
    assert answer[1] == 3


SHORT = SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)


def kill(engine: WorkerEngine) -> None:
    assert engine._worker is not None
    os.kill(engine._worker.pid, signal.SIGKILL)


async def test_a_request_without_a_token_outlives_a_worker(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    """And one that its client gave up meanwhile is not sent again."""
    expected = await read(engine.submit(request(prompts, "first", SHORT)))
    assert engine._worker is not None
    os.kill(engine._worker.pid, signal.SIGSTOP)  # nothing is answered any more
    stream, gone = (engine.submit(request(prompts, name, SHORT)) for name in ("a", "gone"))
    kill(engine)
    await until(lambda: not engine.health().is_ready, "still ready")
    gone.abort()
    assert await read(stream) == expected
    assert engine.num_restarts == 1 and not engine._unstarted and not engine._streams


async def test_a_request_that_sees_two_workers_die_is_failed(
    engine: WorkerEngine, prompts: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = engine.submit(request(prompts, "poison", SHORT))
    kill(engine)
    send_again = engine._send_again

    def die(request_ids: list[str]) -> None:
        send_again(request_ids)
        kill(engine)

    monkeypatch.setattr(engine, "_send_again", die)
    with pytest.raises(EngineError):
        await read(poison)
    monkeypatch.undo()
    await until(lambda: engine.health().is_ready, "no new worker")
    assert (await read(engine.submit(request(prompts, "next", SHORT))))[1] == 5


async def test_stopping_fails_what_still_waits(
    engine: WorkerEngine, prompts: PromptBuilder
) -> None:
    assert engine._worker is not None
    os.kill(engine._worker.pid, signal.SIGSTOP)
    stream = engine.submit(request(prompts, "a", SHORT))
    kill(engine)
    await until(lambda: not engine.health().is_ready, "still ready")
    await engine.stop()
    with pytest.raises(EngineError):
        await read(stream)


async def test_the_worker_ends_with_its_front_end(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    engine = WorkerEngine(
        EngineConfig(checkpoint_path=str(tiny_checkpoint), device="cpu"),
        model_id="tiny",
        make_detokenizer=prompts.detokenizer,
    )
    await engine.start()
    assert engine._worker is not None
    pid = engine._worker.pid
    await engine.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_cannot_be_loaded_says_why(tmp_path: Path, prompts: PromptBuilder) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["InternVLChatModel"]}')
    engine = WorkerEngine(
        EngineConfig(checkpoint_path=str(tmp_path)),
        model_id="x",
        make_detokenizer=prompts.detokenizer,
    )
    with pytest.raises(WorkerLoadError, match="-hf"):
        await engine.start()
    await engine.stop()
