"""A web server that answers whatever bytes a test likes, and keeps doing so."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Answer = Callable[[], Iterable[bytes]]
OK = b"HTTP/1.1 200 OK\r\n"
_DEADLINE_S = 20.0  # no answer is endless for ever


class HostileSite:
    """Raw answers by path; a piece that is a number is a pause in seconds."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Iterable[Any]]] = {}
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_DEADLINE_S)
            try:
                request = connection.recv(65536)
                self.requests.append(request)
                path = request.split(b" ")[1].decode("latin-1")
                self._send(connection, self.answers[path]())
            except (OSError, IndexError, KeyError):
                return

    def _send(self, connection: socket.socket, pieces: Iterable[Any]) -> None:
        started = time.monotonic()
        for piece in pieces:
            if isinstance(piece, bytes):
                connection.sendall(piece)
            else:
                time.sleep(piece)
            if time.monotonic() - started > _DEADLINE_S:
                return


def body(content: bytes, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return OK + f"{lines}Content-Length: {len(content)}\r\n\r\n".encode() + content


def endless(piece: bytes, pause_s: float = 0.0) -> Iterator[Any]:
    while True:
        yield piece
        if pause_s:
            yield pause_s
