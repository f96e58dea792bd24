"""Domain → wire: the JSON of text completions, with log-probabilities in their older shape."""

import codecs
import time
from collections.abc import Iterable
from typing import Any

from model_runtime.protocol import TokenLogprobs
from server.api.logprobs import LEAST, TokenBytes

Scored = tuple[int, TokenLogprobs | None]  # a token, and its score unless it is the first


class Transcript:
    """A choice's `logprobs`; offsets into its text go on from piece to piece."""

    def __init__(self, token_bytes: TokenBytes, num_top: int) -> None:
        self._token_bytes = token_bytes
        self._num_top = num_top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_chars = 0

    def write(self, tokens: Iterable[Scored]) -> dict[str, list[Any]]:
        written: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for token_id, score in tokens:
            raw = self._token_bytes(token_id)
            written["tokens"].append(_name(raw))
            written["token_logprobs"].append(None if score is None else _bounded(score.logprob))
            written["top_logprobs"].append(None if score is None else self._top(score))
            written["text_offset"].append(self._num_chars)
            self._num_chars += len(self._decoder.decode(raw))
        return written

    def _top(self, score: TokenLogprobs) -> dict[str, float]:
        """The likeliest, and the token itself if it is none of them."""
        ranked = [*score.top[: self._num_top], (score.token_id, score.logprob)]
        named = ((_name(self._token_bytes(token_id)), value) for token_id, value in ranked)
        top: dict[str, float] = {}
        for name, value in named:
            top.setdefault(name, _bounded(value))
        return top


class TextCompletionWire:
    """The fields that all pieces of one request's answers share."""

    def __init__(self, request_id: str, model: str) -> None:
        self._head = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def completion(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {**self._head, "choices": choices, **more}

    @staticmethod
    def choice(
        index: int, text: str, logprobs: dict[str, Any] | None, finish_reason: str | None
    ) -> dict[str, Any]:
        return {
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }


def _bounded(logprob: float) -> float:
    return max(logprob, LEAST)


def _name(raw: bytes) -> str:
    """The token's text; of a part of a character its bytes, as OpenAI writes them."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
