"""The types at the engine hop, and the protocol the HTTP side relies on."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from model_runtime.protocol import FinishReason, SamplingParams, StepStats, TokenLogprobs
from server.prompt.types import PreparedPrompt

_LIKELY_ANSWER_TOKENS = 512


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What the engine is asked: a prompt, how to sample, and strings that end the answer."""

    request_id: str
    prompt: PreparedPrompt
    sampling: SamplingParams
    stop: tuple[str, ...] = ()
    priority: int = 0
    n: int = 1  # answers
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    grammar: str = ""  # what the answer must obey, as llguidance writes it
    cache_salt: str = ""  # requests share cached prompts only under equal salts
    deadline_s: float | None = None  # by time.monotonic(); then it fails, wherever it is

    @property
    def num_expected_tokens(self) -> int:
        """That it will hold at its end. Many ask for more tokens than their answers need."""
        answer = min(self.sampling.max_tokens, _LIKELY_ANSWER_TOKENS)
        return len(self.prompt.token_ids) + self.n * answer


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of an answer went, in seconds, from `submit` to its last token."""

    queue_s: float  # until it was given a seat; with `n`, the siblings wait for the prompt
    prefill_s: float  # from there to its first token
    decode_s: float  # from there to its last one
    num_tokens: int
    num_preemptions: int  # how often it lost its seat and was computed again


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of an answer. May be empty text (bytes held back). `finish_reason` ends it."""

    text: str
    num_tokens: int  # completion tokens this delta covers
    finish_reason: FinishReason | None = None
    num_cached_tokens: int = 0  # prompt tokens that the engine took from its prefix cache
    index: int = 0  # among the request's `n` answers
    logprobs: tuple[TokenLogprobs, ...] = ()  # of the tokens this delta covers, when asked for
    token_ids: tuple[int, ...] = ()  # those this delta covers
    prompt_logprobs: list[TokenLogprobs | None] | None = None  # once, when asked for
    stop_string: str = ""  # the one that ended the answer
    timings: Timings | None = None  # with the last one


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is served, fixed once the worker is ready."""

    model_id: str
    max_model_len: int
    device: str
    dtype: str
    model_impl: str
    num_kv_tokens: int  # that fit the KV cache


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """Since the start of the server."""

    num_worker_restarts: int = 0
    num_media: int = 0  # that requests brought
    num_media_held: int = 0  # those of them that the worker held, so that nothing was sent


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """`is_ready`: requests are admitted and the worker made progress lately. `is_alive`: it is so
    or may become so; otherwise nothing but a restart of the server helps."""

    is_ready: bool
    reason: str | None  # why not ready
    stats: StepStats | None  # of the last step
    is_alive: bool = True


class CompletionStream(Protocol):
    """The answers to one request as they grow. Iterate once; raises ApiError when it fails."""

    def __aiter__(self) -> AsyncIterator[TextDelta]: ...

    def abort(self) -> None:
        """Stop the request. Synchronous, idempotent, harmless after the end."""
        ...


class Engine(Protocol):
    """The seam between the HTTP side and the worker process."""

    async def start(self) -> EngineInfo:
        """Start the worker and wait until the model is loaded."""
        ...

    async def stop(self) -> None: ...

    @property
    def info(self) -> EngineInfo:
        """Raises UnavailableError while the model is loading."""
        ...

    def submit(self, request: GenerationRequest) -> CompletionStream:
        """Register the stream and send the request. Raises UnavailableError when not ready."""
        ...

    def health(self) -> EngineHealth: ...

    def counts(self) -> EngineCounts: ...
