"""A web server that misbehaves, one way for each path; and listeners that must hear nothing."""

import asyncio
import gzip
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from threading import Thread

from tests.server.media.makers import encoded, photo
from tests.server.media.resolver import FORBIDDEN, SITE

PICTURE = encoded(photo(56, 56))
_HEAD = b"HTTP/1.1 200 OK\r\n"
_OK = _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(PICTURE), PICTURE)
Writer = asyncio.StreamWriter
Answer = Callable[[Writer], Coroutine[None, None, None]]


def raw(data: bytes) -> Answer:
    async def answer(writer: Writer) -> None:
        writer.write(data)

    return answer


def status(line: str, *headers: str, body: bytes = b"") -> Answer:
    head = "\r\n".join([f"HTTP/1.1 {line}", f"Content-Length: {len(body)}", *headers])
    return raw(head.encode("latin-1") + b"\r\n\r\n" + body)


def redirect(location: str, *more: str) -> Answer:
    return status("302 Found", f"Location: {location}", *more)


def for_ever(first: bytes, again: bytes, pause_s: float = 0.0) -> Answer:
    async def answer(writer: Writer) -> None:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


def drip(data: bytes, pause_s: float) -> Answer:
    async def answer(writer: Writer) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


def then_hang(data: bytes) -> Answer:
    async def answer(writer: Writer) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.Event().wait()

    return answer


def _picture(*headers: str) -> Answer:
    return status("200 OK", *headers, body=PICTURE)


ANSWERS: dict[str, Answer] = {
    "/ok.png": raw(_OK),
    "/%E5%9B%BE%E7%89%87.png?q=%C3%A9": raw(_OK),
    "/a%20b.png": raw(_OK),
    "/%0d%0aX:%20y": raw(_OK),
    "/html-type.png": _picture("Content-Type: text/html"),
    "/cookies": _picture(*(f"Set-Cookie: c{n}={'v' * 300}" for n in range(150))),
    "/exactly": status("200 OK", body=b"\xff" * (1 << 20)),
    "/one-more": status("200 OK", body=b"\xff" * ((1 << 20) + 1)),
    "/announces-more": then_hang(_HEAD + b"Content-Length: 99999999\r\n\r\nx"),
    "/endless": for_ever(_HEAD + b"\r\n", b"x" * 65536),
    "/endless-chunked": for_ever(
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n%b\r\n" % (b"x" * 65536)
    ),
    "/drip": drip(_OK, 0.05),
    "/hang-before": then_hang(b""),
    "/hang-in-head": then_hang(b"HTTP/1.1 200 OK\r\nConte"),
    "/hang-after": then_hang(_HEAD + b"Content-Length: 100\r\n\r\nx"),
    "/103": for_ever(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0.001),
    "/10000-headers": raw(_HEAD + b"".join(b"X-%d: yes\r\n" % n for n in range(10_000)) + b"\r\n"),
    "/200k-header": raw(_HEAD + b"X: " + b"y" * 200_000 + b"\r\n\r\n"),
    "/endless-headers": for_ever(_HEAD, b"X: y\r\n"),
    "/gzip": status("200 OK", "Content-Encoding: gzip", body=gzip.compress(PICTURE)),
    "/br": status("200 OK", "Content-Encoding: br", body=PICTURE),
    "/gzip-bomb": status("200 OK", "Content-Encoding: gzip", body=gzip.compress(bytes(64 << 20))),
    "/short": raw(_HEAD + b"Content-Length: 500\r\n\r\n" + PICTURE[:50]),
    "/bad-chunk": raw(_HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nxx"),
    "/cut-chunk": raw(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\nxx"),
    "/negative-length": raw(_HEAD + b"Content-Length: -5\r\n\r\n" + PICTURE),
    "/two-lengths": raw(_HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + PICTURE),
    "/http09": raw(PICTURE),
    "/garbage": raw(bytes(range(256)) * 20),
    "/status-99999": raw(b"HTTP/1.1 99999 X\r\n\r\n"),
    "/close": raw(b""),
    "/empty": status("200 OK"),
    "/login": status("200 OK", "Content-Type: image/png", body=b"<html>Log in</html>"),
    "/playlist.m3u8": status(
        "200 OK",
        "Content-Type: application/vnd.apple.mpegurl",
        body=b"#EXTM3U\n#EXTINF:1,\nhttp://forbidden.example/x.ts\n",
    ),
    "/to-metadata": redirect("http://169.254.169.254/"),
    "/to-file": redirect("file:///etc/passwd"),
    "/to-data": redirect("data:,x"),
    "/to-forbidden": redirect("//forbidden.example/"),
    "/loop": redirect("/loop"),
    "/no-location": status("302 Found"),
    "/two-locations": redirect("/ok.png", "Location: /ok.png"),
    "/long-location": redirect("/" + "x" * 9000),
    "/bad-location": redirect("http://[::1"),
    "/odd-location": redirect("http://good.example:x/\xff"),
    **{f"/hop{n}": redirect(f"/hop{n - 1}") for n in range(1, 5)},
    "/hop0": raw(_OK),
    **{
        f"/status-{code}": status(f"{code} X", body=b"" if code in (204, 304) else PICTURE)
        for code in (201, 204, 206, 304, 400, 401, 403, 404, 500, 503)
    },
}


async def _hung_up(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


class HostileSite:
    """Serves ANSWERS on a thread of its own; with TLS on a second port."""

    def __init__(self, tls: dict[str, ssl.SSLContext] | None = None) -> None:
        self.paths: Counter[str] = Counter()
        self.requests: list[bytes] = []
        self.num_open = 0
        self.ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self.answers = dict(ANSWERS)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._listen("http", None))
        for name, context in (tls or {}).items():
            self._run(self._listen(name, context))
        port = self.ports["http"]
        self.answers["/to-port"] = redirect(f"http://{FORBIDDEN}:{port}/")
        self.answers["/tls-down"] = redirect(f"http://good.example:{port}/ok.png")

    def url(self, path: str, host: str = "good.example", port: str = "http") -> str:
        scheme = "http" if port == "http" else "https"
        return f"{scheme}://{host}:{self.ports[port]}{path}"

    def close(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self, name: str, context: ssl.SSLContext | None) -> None:
        server = await asyncio.start_server(self._serve, SITE, 0, ssl=context)
        self._servers.append(server)
        self.ports[name] = server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.num_open += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.paths[path] += 1
            self.requests.append(head)
            answer = self.answers.get(path, ANSWERS["/status-404"])(writer)
            await _first_of(answer, _hung_up(reader))
            await writer.drain()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass  # the fetcher has had enough
        finally:
            self.num_open -= 1
            writer.close()
