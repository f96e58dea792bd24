import socket

import pytest

from model_runtime.link import FrameReader, LinkClosed, WorkerLink, encode_frame, receive_one
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
        arrived = link.receive(wait=True)
        while len(arrived) < 2:
            arrived += link.receive(wait=True)
        assert arrived == [AbortRequest("a"), AbortRequest("b")]
        assert link.receive(wait=False) == []


def test_a_large_message_arrives_while_the_loop_is_busy() -> None:
    """More than a socket buffer: nobody calls `receive` while it comes in."""
    ours, theirs = socket.socketpair()
    large = AddRequest(
        "r", [1], SamplingParams(max_tokens=1), [], [TileSet(b"h", 1, bytes(8 << 20))]
    )
    with ours, theirs:
        link: WorkerLink[ToWorker] = WorkerLink(theirs, ToWorker)
        for part in encode_frame(large):
            ours.sendall(part)  # returns only because somebody reads
        assert link.receive(wait=True) == [large]


def test_one_frame_is_read_and_not_a_byte_more() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in (AbortRequest("a"), AbortRequest("b")):
            for part in encode_frame(message):
                ours.sendall(part)
        assert receive_one(theirs, AbortRequest) == AbortRequest("a")
        assert WorkerLink[ToWorker](theirs, ToWorker).receive(wait=True) == [AbortRequest("b")]


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
