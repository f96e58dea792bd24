from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from model_runtime.checkpoint import TileProcessing
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings

PROCESSING = TileProcessing(
    tile_height=56,
    tile_width=56,
    min_tiles=1,
    max_tiles=12,
    tokens_per_tile=4,
    resample=3,
    rescale_factor=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    num_frames=8,
)
SETTINGS = MediaSettings(
    allowed_media_networks=("127.0.0.0/8",),
    image_fetch_timeout_s=2.0,
    image_decode_timeout_s=5.0,
    max_image_bytes=1 << 20,
)


@pytest.fixture
async def loader() -> AsyncIterator[MediaLoader]:
    """Loopback is allowed, as an operator allows a private media server."""
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


@pytest.fixture
async def strict_loader() -> AsyncIterator[MediaLoader]:
    """As shipped: nothing private."""
    loader = MediaLoader(MediaSettings(), PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


class Site:
    """A web server on loopback whose answers a test sets: path → (status, headers, body)."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.seen.append((self.path, dict(self.headers)))
                status, headers, body = site.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # the fetcher has had enough

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = (status, named, body)
        return self.url + path

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()
