import socket

import pytest

from model_runtime.link import FrameReader, LinkClosed, WorkerLink, encode_frame
from model_runtime.protocol import AbortRequest, AddRequest, SamplingParams, TileSet, ToWorker

REQUEST = AddRequest(
    "r", [1, 2], SamplingParams(max_tokens=3), [], [TileSet(b"hash", 1, bytes(100_000))]
)


def test_messages_survive_any_cutting_of_the_stream() -> None:
    stream = b"".join(part for m in (REQUEST, AbortRequest("r")) for part in encode_frame(m))
    for size in (1, 7, 4096, len(stream)):
        reader: FrameReader[ToWorker] = FrameReader(ToWorker)
        parts = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert [m for part in parts for m in reader.feed(part)] == [REQUEST, AbortRequest("r")]


def test_receive_takes_all_that_has_arrived_and_does_not_wait() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link: WorkerLink[ToWorker] = WorkerLink(theirs, ToWorker)
        assert link.receive(wait=False) == []
        for part in (*encode_frame(AbortRequest("a")), *encode_frame(AbortRequest("b"))):
            ours.sendall(part)
        assert link.receive(wait=True) == [AbortRequest("a"), AbortRequest("b")]


def test_a_closed_link_is_told() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(LinkClosed):
            WorkerLink[ToWorker](theirs, ToWorker).receive(wait=True)


def test_an_absurd_length_is_refused() -> None:
    reader: FrameReader[ToWorker] = FrameReader(ToWorker)
    with pytest.raises(LinkClosed):
        list(reader.feed(b"\xff" * 16))
