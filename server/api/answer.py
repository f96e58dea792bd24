"""One request being answered: what it holds, and what is known of it for usage and logs."""

import time
from dataclasses import dataclass, field
from typing import Any

from server.admission import Permit
from server.engine.types import CompletionStream, TextDelta
from server.metrics import Metrics
from server.prompt.types import PreparedPrompt
from server.tracing import Tracer


@dataclass(slots=True)
class Answer:
    """Owned by the handler until its stream of events takes over."""

    request_id: str
    permit: Permit
    metrics: Metrics
    tracer: Tracer
    started: float
    facts: dict[str, Any] = field(default_factory=dict)  # for the access log
    deadline_s: float | None = None  # by time.monotonic()
    prompts: list[PreparedPrompt] = field(default_factory=list)
    num_choices: int = 1
    num_tokens: int = 0
    _num_cached_tokens: dict[int, int] = field(default_factory=dict)  # by prompt
    _stream: CompletionStream | None = None
    _num_unfinished: int = 1  # choices
    _ttft_s: float | None = None
    _last_token: float = 0.0

    def begin(
        self, prompts: list[PreparedPrompt], num_choices: int, stream: CompletionStream
    ) -> None:
        """The engine works on it from now on."""
        self.prompts, self._stream = prompts, stream
        self.num_choices = self._num_unfinished = num_choices
        self.facts["prompt_tokens"] = self.num_prompt_tokens
        self.facts["media"] = sum(prompt.num_media for prompt in prompts)

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(prompt.token_ids) for prompt in self.prompts)

    @property
    def num_cached_tokens(self) -> int:
        return sum(self._num_cached_tokens.values())

    @property
    def is_complete(self) -> bool:
        return not self._num_unfinished

    @property
    def stream(self) -> CompletionStream:
        assert self._stream is not None, "begin comes first. This is a bug."
        return self._stream

    def end(self) -> None:
        """Give everything back. Idempotent, synchronous, never blocks."""
        if self._stream is not None:
            self._stream.abort()
            self.facts.setdefault("finish", "none")  # the client left, or the engine failed
        self.permit.release()

    def account(self, delta: TextDelta) -> None:
        """Every piece passes here, for metrics and logs."""
        now = time.monotonic()
        if delta.num_tokens and self._ttft_s is None:
            self._ttft_s = now - self.started
            self.metrics.time_to_first_token.observe(self._ttft_s)
        elif delta.num_tokens:
            self.metrics.inter_token_latency.observe((now - self._last_token) / delta.num_tokens)
        self._last_token = now
        self.num_tokens += delta.num_tokens
        prompt, sibling = divmod(delta.index, self.num_choices // len(self.prompts))
        if sibling == 0:  # the others share its prompt
            self._num_cached_tokens[prompt] = delta.num_cached_tokens
        if delta.finish_reason is not None:
            self._num_unfinished -= 1
            self.metrics.request_success.labels(delta.finish_reason).inc()
            self.facts["finish"] = delta.finish_reason
            self._account_times(delta, now)
        if not self._num_unfinished:
            self._account_end(now)

    def _account_times(self, delta: TextDelta, now: float) -> None:
        """Where one choice's time went; a span for each stage."""
        if (times := delta.timings) is None:
            return
        self.metrics.on_timings(times)
        started = now - times.decode_s
        self.tracer.record("decode", started, now)
        started -= times.prefill_s
        self.tracer.record("prefill", started, started + times.prefill_s)
        self.tracer.record("queue", started - times.queue_s, started)

    def _account_end(self, now: float) -> None:
        self.metrics.prompt_tokens.inc(self.num_prompt_tokens)
        self.metrics.cached_prompt_tokens.inc(self.num_cached_tokens)
        self.metrics.generation_tokens.inc(self.num_tokens)
        self.metrics.e2e_latency.observe(now - self.started)
        self.facts |= {
            "completion_tokens": self.num_tokens,
            "ttft_s": round(self._ttft_s or 0.0, 3),
        }
