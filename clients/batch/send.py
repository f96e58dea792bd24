"""One line, asked until the server has an answer: it waits for busy and restarting servers."""

import asyncio
import json
import random
import time
import uuid
from typing import Any

import httpx

from clients.batch.lines import Job
from clients.target import ClientError, refusal, unreachable

_BUSY = (429, 503)
_BROKEN = (408, 500, 502, 504)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0


class Sender:
    """`retries`: for failures; `patience`: seconds to wait for a server that is busy or away."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, retries: int, patience: float):
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._retries = retries
        self._patience = patience

    async def send(self, job: Job) -> dict[str, Any]:
        """The result. Raises ClientError when nobody answers for `patience` seconds."""
        deadline = time.monotonic() + self._patience
        failures = refusals = 0
        while True:
            response = await self._try(job)
            if isinstance(response, httpx.Response) and response.status_code not in _BUSY:
                if response.status_code not in _BROKEN or failures >= self._retries:
                    return result(job.custom_id, response)
                failures += 1
            elif isinstance(response, httpx.Response) or _is_away(response):
                if time.monotonic() > deadline:
                    raise self._given_up(response)
            elif failures >= self._retries:
                return failed(job.custom_id, "connection_failed", type(response).__name__)
            else:
                failures += 1
            refusals += 1
            await asyncio.sleep(_pause(response, refusals))

    def _given_up(self, response: httpx.Response | httpx.HTTPError) -> ClientError:
        if isinstance(response, httpx.Response):
            return ClientError(
                f"The server stays busy (status {response.status_code}). The same command goes on "
                "from here; a smaller --concurrency may help."
            )
        return unreachable(self._base_url)

    async def _try(self, job: Job) -> httpx.Response | httpx.HTTPError:
        url = self._base_url.removesuffix("/v1") + job.path
        try:
            return await self._http.post(url, json=job.body)
        except httpx.HTTPError as error:
            return error


def result(name: str, response: httpx.Response) -> dict[str, Any]:
    """A result as OpenAI's batches have it; `error` is set for every status from 400 on."""
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        return failed(name, str(status), "The answer is not JSON.")
    error = {"code": str(status), "message": refusal(status, response.content)}
    answer = {"status_code": status, "request_id": response.headers.get("x-request-id", "")}
    return _line(name, answer | {"body": body}, error if status >= 400 else None)


def failed(name: str, code: str, message: str) -> dict[str, Any]:
    """The result of a line that has no answer."""
    return _line(name, None, {"code": code, "message": message})


def encode(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _line(name: str, response: Any, error: dict[str, str] | None) -> dict[str, Any]:
    number = f"batch_req_{uuid.uuid4().hex}"
    return {"id": number, "custom_id": name, "response": response, "error": error}


def _is_away(error: httpx.HTTPError) -> bool:
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _pause(response: httpx.Response | httpx.HTTPError, count: int) -> float:
    """What the server asks for, else longer each time; seconds."""
    asked = response.headers.get("retry-after", "") if isinstance(response, httpx.Response) else ""
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(count - 1, 10))
    return float(asked) if asked.isdigit() else random.uniform(longest / 2, longest)
