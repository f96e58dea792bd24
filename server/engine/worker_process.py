"""Starts and ends the worker process, and carries frames to and from it.

Knows the socket and the process; knows nothing of requests.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import msgspec

from model_runtime.environment import COMPUTE_ENVIRONMENT
from model_runtime.link import FrameReader, LinkClosed, encode_frame
from model_runtime.protocol import EngineConfig, FromWorker
from model_runtime.pulse import Pulse, open_memory

logger = logging.getLogger(__name__)
_RECEIVE_BYTES = 1 << 16
WORKER_MODULE = "model_runtime.worker"
_EXIT_TIMEOUT_S = 3.0


class WorkerProcess:
    """A running worker, the front end's end of its link, and its pulse."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pulse: Pulse,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.pulse = pulse

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, config: EngineConfig) -> "WorkerProcess":
        """Start the process and hand it its configuration.

        From the loop's own thread: the worker is killed when the thread that started it ends.
        """
        ours, theirs = socket.socketpair()
        memory = open_memory()
        with theirs:
            process = _spawn(theirs.fileno(), memory)
        pulse = Pulse(memory)
        os.close(memory)
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(process, reader, writer, pulse)
        worker.send(config)
        return worker

    def send(self, message: msgspec.Struct) -> None:
        """Queue a message; never blocks. A dead worker's messages are dropped: `messages` ends."""
        if not self._writer.is_closing():
            self._writer.writelines(encode_frame(message))

    async def messages(self) -> AsyncIterator[FromWorker]:
        """What the worker says, until it is gone."""
        frames: FrameReader[FromWorker] = FrameReader(FromWorker)
        try:
            while data := await self._receive():
                for message in frames.feed(data):
                    yield message
        except (LinkClosed, msgspec.DecodeError):
            logger.exception("the worker sent what is no message")

    def kill(self) -> None:
        """At once, also when it is stopped; `messages` ends."""
        self._process.kill()

    async def stop(self) -> None:
        """Close the link, which ends the worker; kill it when it does not go."""
        self._writer.close()
        self.pulse.close()
        try:
            await asyncio.wait_for(asyncio.to_thread(self._process.wait), _EXIT_TIMEOUT_S)
        except TimeoutError:
            logger.warning("the worker did not end by itself and is killed")
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def _receive(self) -> bytes:
        try:
            return await self._reader.read(_RECEIVE_BYTES)
        except ConnectionError:
            return b""


def _spawn(*descriptors: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", WORKER_MODULE, *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        env={**COMPUTE_ENVIRONMENT, **os.environ},
    )
