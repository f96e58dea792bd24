"""Several prompts' answers as one stream, numbered through."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from model_runtime.protocol import FinishReason
from server.engine.types import CompletionStream, TextDelta


class JoinedStream:
    """Implements `CompletionStream` over one stream for each prompt, with `n` answers each.

    Every stream has a reader of its own, which waits while the common reader is behind, so that
    what piles up is text in few deltas.
    """

    def __init__(
        self, streams: Sequence[CompletionStream], n: int, *, without_answers: bool = False
    ) -> None:
        """`without_answers`: only that they ended is told, and what is known of the prompts."""
        self._streams = streams
        self._without_answers = without_answers
        self._n = n
        self._num_open = len(streams)
        self._queue: asyncio.Queue[TextDelta | Exception | None] = asyncio.Queue(len(streams))
        self._readers: list[asyncio.Task[None]] = []

    def abort(self) -> None:
        """Stop all of them. Synchronous, idempotent, harmless after the end."""
        for reader in self._readers:
            reader.cancel()
        for stream in self._streams:
            stream.abort()

    def __aiter__(self) -> AsyncIterator[TextDelta]:
        self._readers = [
            asyncio.create_task(self._read(stream, place * self._n))
            for place, stream in enumerate(self._streams)
        ]
        return self

    async def __anext__(self) -> TextDelta:
        """Raises what the first stream to fail raised."""
        while self._num_open:
            item = await self._queue.get()
            if isinstance(item, TextDelta):
                return item
            self._num_open -= 1
            if item is not None:
                raise item
        raise StopAsyncIteration

    async def _read(self, stream: CompletionStream, first_index: int) -> None:
        try:
            async for delta in stream:
                if self._without_answers:
                    delta = _emptied(delta)
                await self._queue.put(replace(delta, index=first_index + delta.index))
        except Exception as error:  # the common reader raises it
            await self._queue.put(error)
        else:
            await self._queue.put(None)


def _emptied(delta: TextDelta) -> TextDelta:
    reason: FinishReason | None = None if delta.finish_reason is None else "length"
    return replace(delta, text="", num_tokens=0, logprobs=(), token_ids=(), finish_reason=reason)
