"""The engine client with a real worker process and a tiny model."""

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest

from model_runtime.protocol import (
    AddRequest,
    EngineConfig,
    MediaSpan,
    SamplingParams,
    StepStats,
    TileSet,
)
from server.engine.client import WorkerEngine
from server.engine.stream import EngineStream
from server.engine.supervisor import WorkerLoadError
from server.engine.types import GenerationRequest, Timings
from server.prompt.builder import PromptBuilder
from server.prompt.types import ChatMessage, TextPart
from tests.server.engine.driving import (
    LONG,
    SHORT,
    make_engine,
    picture_request,
    read,
    request,
    running,
    until,
)


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
    await until(lambda: engine.health().stats.num_running == 0, "still running")


def record_sent(engine: WorkerEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tile sets each request carries that is sent from now on."""
    sent: list[int] = []
    send = engine._workers.send

    def record(message: AddRequest) -> None:
        sent.append(len(message.tiles))
        send(message)

    monkeypatch.setattr(engine._workers, "send", record)
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


async def timings(stream: EngineStream) -> Timings:
    """Of its only answer; they come with the last piece and with no other."""
    deltas = [delta async for delta in stream]
    assert [delta.timings is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert deltas[-1].timings is not None
    return deltas[-1].timings


async def test_an_answer_tells_where_its_time_went(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    """Also one that a stop string ends. Queued is what waits for a seat."""
    async with running(make_engine(tiny_checkpoint, prompts, max_num_seqs=1)) as engine:
        started = time.monotonic()
        first, second = (engine.submit(request(prompts, name, LONG)) for name in "ab")
        one, two = await asyncio.gather(timings(first), timings(second))
        took = time.monotonic() - started
        assert one.queue_s < 0.2 < one.decode_s and one.num_preemptions == 0
        assert two.queue_s > 0.5 * one.decode_s  # it may come a little later than the first
        total = two.queue_s + two.prefill_s + two.decode_s
        assert total == pytest.approx(took, abs=0.1, rel=0.3)
        text, _, _ = await read(engine.submit(request(prompts, "c", SHORT)))
        stopped = await timings(engine.submit(request(prompts, "d", LONG, (text[3:5],))))
        assert 0 < stopped.decode_s < one.decode_s


async def test_preemptions_are_counted_by_request(
    tiny_checkpoint: Path, prompts: PromptBuilder
) -> None:
    config = {"max_model_len": 512, "max_num_seqs": 4, "kv_cache_memory_bytes": 600 * 512}
    steps: list[StepStats] = []
    engine = make_engine(tiny_checkpoint, prompts, on_step=steps.append, **config)
    long = SamplingParams(max_tokens=400, temperature=0.0, ignore_eos=True)
    async with running(engine):
        streams = [engine.submit(request(prompts, name, long)) for name in "abcd"]
        found = await asyncio.gather(*map(timings, streams))
        num_preemptions = [each.num_preemptions for each in found]
        assert num_preemptions[0] == 0 < sum(num_preemptions) == steps[-1].num_preemptions


async def test_the_room_is_told_before_anything_was_asked(engine: WorkerEngine) -> None:
    await until(lambda: engine.health().stats is not None, "no report")
    stats = engine.health().stats
    assert stats is not None and stats.num_free_blocks == stats.num_blocks > 0
