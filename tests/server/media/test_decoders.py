"""Decoder processes: what they may do, and what it costs when one is lost."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from server.errors import MediaError
from server.media.decoder_pool import _Decoder
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from server.media.types import MediaRequest
from tests.server.media.conftest import PROCESSING
from tests.server.media.gate import COMPLEX, OK, media, outcome, outcomes
from tests.server.media.makers import data_url, encoded, photo
from tests.server.media.processes import children, num_descriptors

SETTINGS = MediaSettings(num_decoders=2, image_decode_timeout_s=4.0, tile_cache_bytes=0)
_SECRETS = {"HF_TOKEN": "hf_secret", "SERVER_API_KEY": "sk-secret", "AWS_SECRET_ACCESS_KEY": "x"}
_LIMITS = {
    "Max address space": (SETTINGS.decoder_memory_bytes, SETTINGS.decoder_memory_bytes),
    "Max open files": (3, 3),
    "Max file size": (0, 0),
    "Max core file size": (0, 0),
}


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MediaLoader]:
    """Two decoders, warm, started by a process with secrets."""
    for name, value in _SECRETS.items():
        monkeypatch.setenv(name, value)
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    assert {each.code for each in await outcomes(loader, small(4), 10)} == {OK}
    yield loader
    await loader.stop()


def small(count: int) -> list[MediaRequest]:
    return [media("image", data_url(encoded(photo(56, 56, seed=n)))) for n in range(count)]


def slow() -> MediaRequest:
    """Half a second of work, or more."""
    return media("image", _large())


@cache
def _large() -> str:
    image = photo(300, 300, "RGBA").resize((6200, 6200), Image.Resampling.NEAREST)
    return data_url(encoded(image, compress_level=1))


def decoders(gate: MediaLoader) -> set[_Decoder]:
    return set(gate._processor._decoders._all)


async def busy_decoder(gate: MediaLoader) -> _Decoder:
    """The one that is at work: on the pixels, as it takes longer than a header does."""
    idle, seen = gate._processor._decoders._idle, list[set[_Decoder]]()
    for _ in range(500):
        await asyncio.sleep(0.02)
        seen.append(decoders(gate) - set(idle._queue))  # type: ignore[attr-defined]
        if len(seen) > 10 and len(seen[-1]) == 1 and all(each == seen[-1] for each in seen[-10:]):
            return seen[-1].pop()
    raise AssertionError("no decoder is at work")


async def all_replaced(gate: MediaLoader) -> None:
    for _ in range(300):
        idle = gate._processor._decoders._idle
        if len(decoders(gate)) == idle.qsize() == SETTINGS.num_decoders:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a decoder was not replaced")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
async def test_a_lost_decoder_costs_its_own_request_only(
    gate: MediaLoader, how: signal.Signals
) -> None:
    """Killed, crashed or stuck in the middle of a picture, while others keep coming."""
    before = children()
    victim = asyncio.create_task(outcome(gate, slow(), 6))
    decoder = await busy_decoder(gate)
    os.kill(decoder.pid, how)
    others = await outcomes(gate, small(24), 6)
    assert {each.code for each in others} == {OK}
    lost = await victim
    assert lost.code == COMPLEX and lost.seconds < SETTINGS.image_decode_timeout_s + 2
    await all_replaced(gate)
    assert decoder not in decoders(gate) and decoder.pid not in children()
    assert len(children()) == len(before)
    assert {each.code for each in await outcomes(gate, small(4), 6)} == {OK}


async def test_all_decoders_lost_at_once_come_back(gate: MediaLoader) -> None:
    for decoder in decoders(gate):
        os.kill(decoder.pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    found = await outcomes(gate, small(12), 6)
    assert {each.code for each in found} == {OK}, "they had nothing to do when they died"
    await all_replaced(gate)
    assert {each.code for each in await outcomes(gate, small(4), 6)} == {OK}


async def test_stopping_with_work_under_way_ends_it() -> None:
    before = children()
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    work = asyncio.create_task(outcome(loader, slow(), 6))
    await busy_decoder(loader)
    await asyncio.wait_for(loader.stop(), 5)
    assert (await work).code == COMPLEX
    await asyncio.sleep(0.1)
    assert children() == before


async def test_a_cancelled_request_frees_its_decoder(gate: MediaLoader) -> None:
    await all_replaced(gate)  # those that the tests before it killed
    work = asyncio.create_task(outcome(gate, slow(), 6))
    await busy_decoder(gate)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    started = time.monotonic()
    assert {each.code for each in await outcomes(gate, small(4), 6)} == {OK}
    assert time.monotonic() - started < 1.5
    await all_replaced(gate)


async def test_children_hold_no_secrets_and_have_their_limits(gate: MediaLoader) -> None:
    for decoder in decoders(gate):
        proc = Path(f"/proc/{decoder.pid}")
        environment = (proc / "environ").read_bytes()
        assert not any(
            name.encode() in environment or value.encode() in environment
            for name, value in _SECRETS.items()
            if len(value) > 1
        )
        lines = (proc / "limits").read_text().splitlines()
        for name, expected in _LIMITS.items():
            (line,) = [line for line in lines if line.startswith(name)]
            assert tuple(map(int, line.removeprefix(name).split()[:2])) == expected
        (line,) = [line for line in lines if line.startswith("Max cpu time")]
        assert int(line.split()[3]) <= 60
        assert num_descriptors(decoder.pid) == 3
        names = {os.readlink(each).split(":")[0] for each in (proc / "fd").iterdir()}
        assert names <= {"pipe", "socket", "/dev/null"}
        assert b"libtorch" not in (proc / "maps").read_bytes()


_AFTER_WARM_UP = """
import socket
from server.media.decoder import limit, warm_up
warm_up()
limit(1536 << 20)
for what in (
    lambda: open("/etc/passwd"),
    lambda: open("/tmp/x", "w"),
    lambda: socket.socket(),
    lambda: socket.socket(socket.AF_UNIX),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: __import__("subprocess").run(["true"]),
):
    try:
        what()
    except (OSError, ImportError):
        continue
    raise SystemExit(1)
print("shut")
"""


async def test_a_warm_decoder_opens_no_file_and_no_socket() -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _AFTER_WARM_UP], capture_output=True, timeout=30
    )
    assert done.stdout == b"shut\n", done.stderr


async def test_too_little_memory_is_a_refusal() -> None:
    """The limit is the process's own: MemoryError becomes an answer, the process lives."""
    loader = MediaLoader(MediaSettings(num_decoders=1, decoder_memory_bytes=700 << 20), PROCESSING)
    await loader.start()
    try:
        (decoder,) = decoders(loader)
        request = media("image", _large())
        assert (await outcome(loader, request, 10)).code == COMPLEX
        assert (await outcome(loader, small(1)[0])).code == OK
        assert decoders(loader) == {decoder}
    finally:
        await loader.stop()


async def test_stopping_leaves_no_process_and_no_descriptor() -> None:
    processes, descriptors = children(), num_descriptors()
    for _ in range(2):
        loader = MediaLoader(SETTINGS, PROCESSING)
        await loader.start()
        await outcomes(loader, small(2), 10)
        await loader.stop()
    await asyncio.sleep(0.1)
    assert children() == processes
    assert num_descriptors() <= descriptors


async def test_a_failure_names_its_own_part(gate: MediaLoader) -> None:
    parts = [*small(3), media("video", data_url(b"no video", "video/mp4"))]
    with pytest.raises(MediaError) as caught:
        async with gate.open(parts):
            pass
    assert caught.value.param == parts[3].param
