"""The seam between the front end and the worker: every message that crosses the link.

Knows tokens, tiles and sampling parameters; knows neither HTTP nor torch. Messages are
msgspec structs, encoded as MessagePack by `model_runtime.link`. A `Struct` here is a wire
contract: both processes come from the same release, so fields may change together.
"""

from typing import Literal

import msgspec

from model_runtime.logs import LogFormat

FinishReason = Literal["stop", "length", "abort", "error"]
ErrorKind = Literal["failure", "refusal", "no_memory", "not_finite"]
Quantization = Literal["int8", "bitsandbytes", "bitsandbytes-8bit"]


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How one sequence picks its tokens. `temperature` 0 means greedy."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    logprobs: int | None = None  # None: none; 0 to 20: the picked token's and so many top ones
    prompt_logprobs: int | None = None  # the same for every prompt token
    bad_words: tuple[tuple[int, ...], ...] = ()  # token sequences that are never completed
    allowed_token_ids: tuple[int, ...] | None = None  # None: all


class TokenLogprobs(msgspec.Struct, frozen=True):
    """A token's natural-log probability under the model, and the likeliest alternatives."""

    token_id: int
    logprob: float
    rank: int  # 1: the likeliest
    top: list[tuple[int, float]]  # best first


class MediaSpan(msgspec.Struct, frozen=True):
    """Where one item's placeholders lie in the prompt.

    An image is one span of `tokens_per_tile * num_tiles` tokens; each frame of a video is a
    span of its own.
    """

    start: int
    num_tokens: int
    content_hash: bytes

    @property
    def end(self) -> int:
        return self.start + self.num_tokens


class TileSet(msgspec.Struct, frozen=True):
    """The pixels behind a content hash: uint8 RGB, `[num_tiles, height, width, 3]`, row-major.

    The hash covers the original bytes and everything that shaped the tiles, so equal hashes
    mean equal pixels.
    """

    content_hash: bytes
    num_tiles: int
    pixels: bytes


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker needs to load a model and to size its loop. Defaults live here once."""

    checkpoint_path: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    model_impl: Literal["auto", "native", "transformers"] = "auto"
    quantization: Quantization | None = None  # int8: native on CPUs; the others: transformers
    max_model_len: int | None = None  # None: the checkpoint's
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None  # token budget of one step; None: by device
    max_tiles_per_step: int | None = None  # vision budget of one step; None: by device
    mm_embedding_cache_bytes: int = 1 << 30  # media embeddings kept after their requests ended
    block_size: int = 16  # tokens per KV block
    kv_cache_memory_bytes: int | None = None  # None: sized from the device
    gpu_memory_utilization: float = 0.9
    seed: int = 0  # seeds of requests that bring none are derived from it
    async_scheduling: bool | None = None  # plan a step while the last runs; None: on CUDA
    log_level: str = "info"  # debug also checks the books whenever the engine is idle
    log_format: LogFormat = "text"
    num_threads: int | None = None  # CPU threads of the worker; None: leave one for the front end


# ------------------------------------------------------------------ front end → worker


class AddRequest(msgspec.Struct, frozen=True, tag=True):
    """Start generating `n` answers. `spans` are sorted and do not overlap.

    `tiles` may lack what the worker said it holds (`StepOutput.encoded`); when that has been
    dropped in the meantime, the request comes back in `StepOutput.missing_tiles`.
    """

    request_id: str
    token_ids: list[int]
    sampling: SamplingParams
    spans: list[MediaSpan] = []
    tiles: list[TileSet] = []
    priority: int = 0  # lower runs earlier; equal is first come, first served
    n: int = 1
    grammar: str = ""  # llguidance's; what every answer must obey
    cache_salt: bytes = b""  # requests share cached prefixes only under equal salts


class AbortRequest(msgspec.Struct, frozen=True, tag=True):
    """Stop and forget. Unknown ids are ignored: the request may have just finished."""

    request_id: str
    index: int | None = None  # which of its answers; None: all


ToWorker = AddRequest | AbortRequest


# ------------------------------------------------------------------ worker → front end


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded and the loop runs."""

    max_model_len: int
    num_blocks: int
    block_size: int
    device: str
    dtype: str
    model_impl: str
    load_time_s: float


class WorkerFailed(msgspec.Struct, frozen=True, tag=True):
    """Loading failed for a reason the user can mend; the worker exits after this."""

    message: str


class SequenceOutput(msgspec.Struct, frozen=True):
    """What one step brought one answer. `finish_reason` set: nothing follows for this index.

    An error ends the whole request, whatever the index.
    """

    request_id: str
    new_token_ids: list[int]
    finish_reason: FinishReason | None = None
    error: str | None = None  # with finish_reason "error": what to tell the client
    error_kind: ErrorKind = "failure"  # with an error; refusal: the request itself is why
    index: int = 0  # which of the request's `n` answers
    num_cached_tokens: int = 0  # prompt tokens that came from the prefix cache
    scheduled_s: float = 0.0  # when it was first given a seat, by time.monotonic()
    num_preemptions: int = 0  # how often it lost it again
    logprobs: list[TokenLogprobs] | None = None  # one for each new token, when asked for
    prompt_logprobs: list[TokenLogprobs | None] | None = None  # with the first token


class StepStats(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's state after a step."""

    step: int  # counts up; forward progress is this number growing
    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    num_preemptions: int  # since start
    num_prefill_tokens: int  # computed in this step
    num_decode_tokens: int
    num_tiles: int
    step_time_s: float


class StepOutput(msgspec.Struct, frozen=True, tag=True):
    """One message per step for the whole batch."""

    outputs: list[SequenceOutput]
    stats: StepStats
    encoded: list[bytes] = []  # content hashes whose embeddings the worker holds from now on
    evicted: list[bytes] = []  # and those it dropped
    missing_tiles: list[str] = []  # requests to be sent again, with all their tiles


FromWorker = WorkerReady | WorkerFailed | StepOutput
