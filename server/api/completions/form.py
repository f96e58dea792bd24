"""How text completions are written: whole, or as events."""

from collections.abc import Iterator, Sequence
from typing import Any

from model_runtime.protocol import TokenLogprobs
from server.api.answer import Answer
from server.api.completions.schemas import CompletionRequest
from server.api.completions.wire import Scored, TextCompletionWire, Transcript
from server.api.logprobs import prompt_logprobs
from server.api.parts import Parts
from server.api.wire import DONE, Choice, error_body, event, usage
from server.engine.types import TextDelta
from server.errors import ApiError


class CompletionFormat:
    """Texts, one finish reason per choice, usage if asked, `[DONE]`; or an error event.

    Choices are numbered prompt by prompt. An echoed prompt comes with a choice's first piece.
    """

    def __init__(self, request: CompletionRequest, parts: Parts, request_id: str) -> None:
        self._request = request
        self._n = request.n or 1
        self._token_bytes = parts.prompts.token_bytes
        self._wire = TextCompletionWire(request_id, parts.model_name)
        self._transcripts: dict[int, Transcript] = {}  # of streamed choices that have begun
        options = request.stream_options
        self._with_usage = bool(options and options.include_usage)
        self._with_counts = bool(options and options.continuous_usage_stats)

    # ------------------------------------------------------------------ whole

    def whole(self, choices: list[Choice], answer: Answer) -> dict[str, Any]:
        written = [self._choice(index, choices, answer) for index in range(len(choices))]
        return self._wire.completion(written, usage=usage(answer))

    def _choice(self, index: int, choices: list[Choice], answer: Answer) -> dict[str, Any]:
        choice = choices[index]
        scores = choices[index - index % self._n].prompt_logprobs  # its siblings share them
        prompt_ids = answer.prompts[index // self._n].token_ids
        answered = _answered(choice.scores)
        echoed: list[Scored] = []
        if self._request.echo and scores is not None:
            echoed = list(zip(prompt_ids, scores, strict=True))
        written = self._wire.choice(
            index,
            self._echo(index, answer) + "".join(choice.texts),
            self._logprobs(self._transcript(), [*echoed, *answered]),
            choice.finish_reason,
        )
        if (num_top := self._request.prompt_logprobs) is not None and scores is not None:
            written["prompt_logprobs"] = prompt_logprobs(
                [_cut(score, num_top) for score in scores], self._token_bytes
            )
        return written | self._ids(choice.token_ids, prompt_ids)

    # ------------------------------------------------------------------ events

    def opening(self, answer: Answer) -> Iterator[bytes]:
        return iter(())

    def piece(self, delta: TextDelta, answer: Answer) -> Iterator[bytes]:
        is_first = delta.index not in self._transcripts
        transcript = self._transcripts.setdefault(delta.index, self._transcript())
        text = (self._echo(delta.index, answer) if is_first else "") + delta.text
        has_ids = self._request.return_token_ids and delta.token_ids
        if not (text or delta.logprobs or has_ids or delta.finish_reason):
            if is_first:
                del self._transcripts[delta.index]
            return
        scored = _answered(delta.logprobs)
        logprobs = self._logprobs(transcript, scored)
        choice = self._wire.choice(delta.index, text, logprobs, delta.finish_reason)
        prompt_ids = answer.prompts[delta.index // self._n].token_ids if is_first else None
        yield self._event(
            [choice | self._ids(delta.token_ids, prompt_ids)],
            usage(answer) if self._with_counts else None,
        )

    def closing(self, answer: Answer) -> Iterator[bytes]:
        if self._with_usage:
            yield self._event([], usage(answer))
        yield DONE

    def failure(self, error: ApiError) -> bytes:
        return event(error_body(error))

    def _event(self, choices: list[dict[str, Any]], counts: dict[str, Any] | None) -> bytes:
        has_counts = self._with_usage or counts is not None
        more = {"usage": counts} if has_counts else {}
        return event(self._wire.completion(choices, **more))

    # ------------------------------------------------------------------ both

    def _echo(self, index: int, answer: Answer) -> str:
        """The prompt as it was sent; of token ids, their text."""
        if not self._request.echo:
            return ""
        prompt = self._request.prompt[index // self._n]
        if isinstance(prompt, str):
            return prompt
        return b"".join(map(self._token_bytes, prompt)).decode("utf-8", "replace")

    def _transcript(self) -> Transcript:
        return Transcript(self._token_bytes, self._request.logprobs or 0)

    def _logprobs(self, transcript: Transcript, tokens: list[Scored]) -> dict[str, Any] | None:
        return None if self._request.logprobs is None else transcript.write(tokens)

    def _ids(self, token_ids: Sequence[int], prompt_ids: list[int] | None) -> dict[str, Any]:
        if not self._request.return_token_ids:
            return {}
        with_prompt = {} if prompt_ids is None else {"prompt_token_ids": prompt_ids}
        return {"token_ids": token_ids, **with_prompt}


def _answered(scores: Sequence[TokenLogprobs]) -> list[Scored]:
    return [(score.token_id, score) for score in scores]


def _cut(score: TokenLogprobs | None, num_top: int) -> TokenLogprobs | None:
    if score is None:
        return None
    return TokenLogprobs(score.token_id, score.logprob, score.rank, score.top[:num_top])
