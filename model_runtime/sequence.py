"""One answer's live state in the engine. Knows token ids and block ids; no tensors.

`num_computed_tokens` is the single progress number: the tokens whose KV lies in the cache.
Everything else about progress is derived from it.
"""

from model_runtime.prefix import extend_block_hashes, spans_between
from model_runtime.protocol import AddRequest, MediaSpan, SamplingParams, TileSet


class Sequence:
    """An answer being generated. Mutated by the scheduler alone, except `append` at commit."""

    def __init__(self, request: AddRequest, arrival: int, index: int = 0) -> None:
        self.request = request
        self.request_id = request.request_id
        self.index = index  # among the request's `n` answers
        self.sampling: SamplingParams = request.sampling
        self.spans: list[MediaSpan] = request.spans
        self.tiles: dict[bytes, TileSet] = {tiles.content_hash: tiles for tiles in request.tiles}
        self.rank = (request.priority, arrival, index)  # lower runs earlier
        self.token_ids: list[int] = list(request.token_ids)
        self.num_prompt_tokens = len(request.token_ids)
        self.num_computed_tokens = 0
        self.num_cached_tokens = 0  # of the prompt, found in the prefix cache when first admitted
        self.block_table: list[int] = []
        self.block_hashes: list[bytes] = []  # of the full blocks, as far as named
        self.is_running = False

    @property
    def key(self) -> tuple[str, int]:
        return self.request_id, self.index

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_completion_tokens(self) -> int:
        return self.num_tokens - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        return self.num_tokens - self.num_computed_tokens

    @property
    def is_decoding(self) -> bool:
        """Only the newest token lacks its KV."""
        return self.num_uncomputed_tokens == 1 and self.num_completion_tokens > 0

    @property
    def completion_token_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    def spans_between(self, start: int, end: int) -> list[MediaSpan]:
        """The media spans that overlap the tokens `[start, end)`."""
        return list(spans_between(self.spans, start, end))

    def name_blocks(self, block_size: int) -> list[bytes]:
        """The names of all full blocks of the known tokens."""
        extend_block_hashes(
            self.block_hashes, self.token_ids, self.spans, block_size, self.request.cache_salt
        )
        return self.block_hashes

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Every prompt token's logits are still owed, so none of them may come from a cache."""
        return self.sampling.prompt_logprobs is not None and not self.num_completion_tokens

    def append(self, token_id: int) -> None:
        self.token_ids.append(token_id)

    def forget_computed(self) -> None:
        """After preemption: everything is computed again, the sampled tokens are kept."""
        assert not self.block_table, "free the blocks before forgetting. This is a bug."
        self.num_computed_tokens = 0
