"""One answer's live state in the engine. Knows token ids and block ids; no tensors.

`num_computed_tokens` is the single progress number: the tokens whose KV lies in the cache.
Everything else about progress is derived from it.
"""

import logging
from typing import TYPE_CHECKING

from model_runtime.prefix import extend_block_hashes, spans_between
from model_runtime.protocol import (
    AddRequest,
    MediaSpan,
    SamplingParams,
    TileSet,
    TokenLogprobs,
)

if TYPE_CHECKING:
    from model_runtime.logits_processing import TokenMask

NONE_TRUSTED = -1
UNKNOWN = -1  # a token that the device has picked and the host has not seen yet


logger = logging.getLogger(__name__)


class Sequence:
    """An answer being generated."""

    def __init__(
        self, request: AddRequest, arrival: int, index: int = 0, max_model_len: int | None = None
    ) -> None:
        self.request_id = request.request_id
        self.index = index  # among the request's `n` answers
        self.sampling: SamplingParams = request.sampling
        self.cache_salt = request.cache_salt
        self.spans: list[MediaSpan] = request.spans
        self.tiles: dict[bytes, TileSet] = {tiles.content_hash: tiles for tiles in request.tiles}
        self.rank = (request.priority, arrival, index)  # lower runs earlier
        self.token_ids: list[int] = list(request.token_ids)
        self.num_prompt_tokens = len(request.token_ids)
        self.max_num_tokens = self.num_prompt_tokens + request.sampling.max_tokens
        if max_model_len is not None:
            self.max_num_tokens = min(self.max_num_tokens, max_model_len)
        self.num_computed_tokens = 0
        self.num_trusted_tokens = NONE_TRUSTED  # whose KV led to a finite sample
        self.num_cached_tokens = 0  # of the prompt, found in the prefix cache when first admitted
        self.scheduled_s = 0.0  # when it was first admitted, by time.monotonic()
        self.num_preemptions = 0
        self.block_table: list[int] = []
        self.block_hashes: list[bytes] = []  # of the full blocks, as far as named
        self.sampled_row = 0  # where the device keeps the newest token while it is UNKNOWN
        self.is_running = False
        self.is_finished = False
        self.grammar: TokenMask | None = None  # what its next token must obey
        self.prompt_logprobs: list[TokenLogprobs] = []  # from the second token on

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
    def is_full_length(self) -> bool:
        """No token may follow, whatever the newest one is."""
        return self.num_completion_tokens > 0 and self.num_tokens >= self.max_num_tokens

    @property
    def completion_token_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    @property
    def is_trusted(self) -> bool:
        """Its KV is finite, but for a token whose sample is still under way."""
        return self.num_computed_tokens - self.num_trusted_tokens <= 1

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Every prompt token's logits are still owed, so none of them may come from a cache."""
        is_wanted = self.sampling.prompt_logprobs is not None and self.index == 0
        return is_wanted and not self.num_completion_tokens

    def spans_between(self, start: int, end: int) -> list[MediaSpan]:
        """The media spans that overlap the tokens `[start, end)`."""
        return list(spans_between(self.spans, start, end))

    def name_blocks(self, num_tokens: int, block_size: int) -> list[bytes]:
        """The names of the full blocks of the first `num_tokens` tokens, at least."""
        if len(self.block_hashes) < num_tokens // block_size:
            known = self.token_ids[:num_tokens]
            extend_block_hashes(self.block_hashes, known, self.spans, block_size, self.cache_salt)
        return self.block_hashes

    def append(self, token_id: int) -> None:
        self.token_ids.append(token_id)

    def obeys_grammar(self, token_id: int) -> bool:
        """Tell the grammar, if there is one, of the next token. False: it could not take it."""
        try:
            if self.grammar is not None:
                self.grammar.accept(token_id)
        except Exception:
            logger.exception("a grammar failed; its request is ended")
            return False
        return True

    def forget_computed(self) -> None:
        """After preemption: everything is computed again, the sampled tokens are kept."""
        assert not self.block_table, "free the blocks before forgetting. This is a bug."
        self.num_computed_tokens = 0
        self.num_trusted_tokens = NONE_TRUSTED
