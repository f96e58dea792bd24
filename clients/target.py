"""Which server a client speaks to, and the words for what can go wrong on the way."""

import argparse
import json
import os
from typing import Any

import httpx

DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"


class ClientError(Exception):
    """Something the user can mend; the message says how."""


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """`--base-url`, `--api-key` and `--model`; the first two also from OpenAI's variables."""
    base_url = os.environ.get("OPENAI_BASE_URL", DEFAULT_BASE_URL)
    key = os.environ.get("OPENAI_API_KEY")
    parser.add_argument("--base-url", default=base_url, help=f"API root (default: {base_url})")
    parser.add_argument("--api-key", default=key, help="key (default: OPENAI_API_KEY)")
    parser.add_argument("--model", help="model name (default: the server's first)")


def key_header(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def unreachable(base_url: str) -> ClientError:
    return ClientError(
        f"No server answers at {base_url}. Start one with `make serve`, or name another with "
        "--base-url."
    )


def refusal(status: int, body: bytes) -> str:
    """The server's own words about an error, in OpenAI's shape or another."""
    try:
        return error_message(json.loads(body))
    except (ValueError, LookupError, TypeError):
        hint = " Check --base-url, which usually ends with /v1." if status == 404 else ""
        return f"The server answered with status {status}.{hint}"


def error_message(answer: Any) -> str:
    """Raises LookupError or TypeError when there is none."""
    error = answer["error"]
    return str(error["message"] if isinstance(error, dict) else error)


def first_model(response: httpx.Response) -> str:
    """The first of an answer of /models. Raises ClientError."""
    if response.status_code >= 400:
        raise ClientError(refusal(response.status_code, response.content))
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise ClientError("The server lists no model; name one with --model.") from error
