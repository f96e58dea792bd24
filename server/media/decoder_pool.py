"""Supervises the decoder processes: hands out jobs, ends the stuck, replaces the dead.

A process that dies fails the job it had, and no other.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from server.errors import MediaError
from server.media.decoder import HEADER
from server.media.jobs import (
    DecodedTiles,
    DecodeRefusal,
    Job,
    JobResult,
    Measured,
    MeasureJob,
    max_result_bytes,
)

logger = logging.getLogger(__name__)
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LD_LIBRARY_PATH")


class DecoderPool:
    """`num_decoders` processes; each serves one job at a time."""

    def __init__(
        self, num_decoders: int, memory_bytes: int, on_wait: Callable[[float], None]
    ) -> None:
        self._num_decoders = num_decoders
        self._memory_bytes = memory_bytes
        self._on_wait = on_wait
        self._video_turns = asyncio.Semaphore(max(1, num_decoders - 1))
        self._idle: asyncio.Queue[_Decoder] = asyncio.Queue()
        self._all: set[_Decoder] = set()
        self._replacements: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    async def start(self) -> None:
        await asyncio.gather(*(self._add() for _ in range(self._num_decoders)))

    async def stop(self) -> None:
        self._is_stopped = True
        for task in self._replacements:
            task.cancel()
        await asyncio.gather(*self._replacements, return_exceptions=True)
        await asyncio.gather(*(decoder.kill() for decoder in self._all))
        self._all.clear()

    async def run(self, job: Job, timeout_s: float, param: str) -> Measured | DecodedTiles:
        """Raises MediaError when the media is at fault, or when it killed its decoder.

        Videos leave a decoder to the pictures, if there are two.
        """
        if job.source.kind != "video":
            return await self._run(job, timeout_s, param)
        async with self._video_turns:
            return await self._run(job, timeout_s, param)

    async def _run(self, job: Job, timeout_s: float, param: str) -> Measured | DecodedTiles:
        started = time.monotonic()
        decoder = await self._living_decoder()
        self._on_wait(time.monotonic() - started)
        is_usable = False
        try:
            result = await asyncio.wait_for(decoder.run(job), timeout_s)
            is_usable = True
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
            logger.warning("a decoder was lost to its media (%s)", type(error).__name__)
            raise MediaError(
                "Decoding the media takes too much time or memory.",
                param=param,
                code="media_too_complex",
            ) from error
        except msgspec.DecodeError as error:
            logger.error("a decoder answered what it was not asked")
            raise undecodable_media(param) from error
        finally:
            self._give_back(decoder, is_usable)
        if isinstance(result, DecodeRefusal):
            raise MediaError(result.message, param=param, code=result.code)
        return result

    async def _living_decoder(self) -> "_Decoder":
        """One that died while it had nothing to do costs no request."""
        while (decoder := await self._idle.get()).has_ended and not self._is_stopped:
            self._give_back(decoder, is_usable=False)
        return decoder

    def _give_back(self, decoder: "_Decoder", is_usable: bool) -> None:
        """Also on cancellation, when the decoder is still at work and must go."""
        if is_usable or self._is_stopped:
            self._idle.put_nowait(decoder)
            return
        task = asyncio.create_task(self._replace(decoder))
        self._replacements.add(task)
        task.add_done_callback(self._replacements.discard)

    async def _replace(self, decoder: "_Decoder") -> None:
        self._all.discard(decoder)
        await decoder.kill()
        await self._add()

    async def _add(self) -> None:
        decoder = await _Decoder.start(self._memory_bytes)
        self._all.add(decoder)
        self._idle.put_nowait(decoder)


def undecodable_media(param: str) -> MediaError:
    return MediaError(
        "The media is damaged or cannot be decoded.", param=param, code="media_decode_failed"
    )


class _Decoder:
    """One process and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._decoder = msgspec.msgpack.Decoder(JobResult)

    @classmethod
    async def start(cls, memory_bytes: int) -> "_Decoder":
        environment = {k: os.environ[k] for k in _KEPT_ENVIRONMENT if k in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.media.decoder",
            str(memory_bytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def run(self, job: Job) -> JobResult:
        """Raises ConnectionError or IncompleteReadError when the process dies, DecodeError when it
        does not say what it was asked: hostile media may have taken it over."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.stdin.is_closing():  # it died just now; uvloop would call it our mistake
            raise ConnectionResetError
        payload = msgspec.msgpack.encode(job)
        self._process.stdin.writelines((HEADER.pack(len(payload)), payload))
        await self._process.stdin.drain()
        header = await self._process.stdout.readexactly(HEADER.size)
        (length,) = HEADER.unpack(header)
        if length > max_result_bytes(job):
            raise msgspec.DecodeError("too long")
        result: JobResult = self._decoder.decode(await self._process.stdout.readexactly(length))
        if isinstance(result, DecodedTiles if isinstance(job, MeasureJob) else Measured):
            raise msgspec.DecodeError("of another kind")
        return result

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
