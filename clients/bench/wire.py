"""One server: sends requests and stamps what arrives. Nothing is parsed while clocks run."""

import asyncio
import time
from dataclasses import dataclass

import httpx

_KEEP_ALIVE_S = 3  # less than servers keep connections, so that none dies under a request
_CONNECT_TIMEOUT_S = 10


class BenchError(Exception):
    """Something the user can mend; the message says how."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """An exchange as the network showed it; times by `time.perf_counter`, in seconds."""

    intended: float  # when the request should have been sent
    started: float  # before its first byte was written
    ended: float  # the answer's end, or the failure
    status: int | None  # None: no answer
    reads: tuple[tuple[float, bytes], ...]  # what each read returned, and when
    failure: str | None  # why the connection gave no whole answer


class Server:
    """Keeps connections; as many as there are requests under way."""

    def __init__(self, base_url: str, api_key: str | None, timeout: float) -> None:
        """`base_url` ends before /chat/completions; `timeout` in seconds for a whole answer."""
        self._url = base_url.rstrip("/")
        self._timeout = timeout
        key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity", **key},
            limits=httpx.Limits(keepalive_expiry=_KEEP_ALIVE_S),
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
        )

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def first_model(self) -> str:
        """Raises BenchError."""
        try:
            response = await self._http.get(f"{self._url}/models", timeout=_CONNECT_TIMEOUT_S)
            return str(response.raise_for_status().json()["data"][0]["id"])
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            raise BenchError(
                f"{self._url}/models answers with status {status}. Check --base-url, which "
                "usually ends with /v1, and --api-key, or name the --model."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BenchError(f"No server answers at {self._url}; see --base-url.") from error
        except (ValueError, LookupError, TypeError) as error:
            raise BenchError(f"{self._url}/models lists no model; name the --model.") from error

    async def send(self, body: bytes, intended: float | None = None) -> Stamped:
        """One chat request. Never raises for what the server or the network does."""
        reads: list[tuple[float, bytes]] = []
        status = failure = None
        url = f"{self._url}/chat/completions"
        started = time.perf_counter()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream("POST", url, content=body) as response,
            ):
                status = response.status_code
                async for data in response.aiter_raw():
                    reads.append((time.perf_counter(), data))  # noqa: PERF401 failures keep them
        except TimeoutError:
            failure = "timeout"
        except httpx.HTTPError as error:
            failure = type(error).__name__
        ended = time.perf_counter()
        first = started if intended is None else intended
        return Stamped(first, started, ended, status, tuple(reads), failure)
