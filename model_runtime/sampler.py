"""Picks the next token of each sequence, each by its own parameters, the whole batch at once.

A sequence's randomness is its own: one uniform number per step from a generator seeded by the
request, turned into a token by the inverse of the cumulative distribution. So the same seed
gives the same text whatever else is in the batch. There is no process-wide seed.
"""

import random
from dataclasses import dataclass

import torch

from model_runtime.drawing import draw
from model_runtime.host_copy import HostCopy
from model_runtime.logits_processing import TokenHistory, add_biases, apply_masks, ban, penalise
from model_runtime.logprobs import RowLogprobs
from model_runtime.protocol import SamplingParams, TokenLogprobs
from model_runtime.sequence import Sequence

INVALID = -1  # picked for a row whose logits are not finite
NOTHING_ALLOWED = -2  # picked for a row whose bans and masks leave no token
_MIN_TEMPERATURE = 1e-5  # below, the softmax is greedy in all but rounding


@dataclass(frozen=True, slots=True)
class Sampled:
    """One sequence's next token."""

    token_id: int
    logprobs: TokenLogprobs | None = None


@dataclass(slots=True)
class SampledTokens:
    """A step's picks, perhaps still being computed; `fetch` waits for them."""

    token_ids: torch.Tensor  # [num_sampled] on the device
    on_host: HostCopy  # of them
    num_top: dict[int, int]  # row → alternatives wanted, of the rows with log-probabilities
    logprobs: RowLogprobs | None

    def fetch(self) -> list[Sampled]:
        logprobs: dict[int, TokenLogprobs] = {}
        if self.logprobs is not None:
            fetched = self.logprobs.fetch(list(self.num_top.values()))
            logprobs = dict(zip(self.num_top, fetched, strict=True))
        token_ids: list[int] = self.on_host.fetch().tolist()
        return [Sampled(token_id, logprobs.get(row)) for row, token_id in enumerate(token_ids)]


class Sampler:
    """Owns, for each live sequence that needs them, a random generator and a token history."""

    def __init__(self, eos_token_ids: tuple[int, ...], seed: int) -> None:
        self._eos_token_ids = eos_token_ids
        self._seeds = random.Random(seed)  # for requests that bring none
        self._generators: dict[tuple[str, int], _Uniforms] = {}
        self._histories: dict[tuple[str, int], TokenHistory] = {}

    def add(self, sequence: Sequence) -> None:
        params = sequence.sampling
        if not is_greedy(params):
            own = self._seeds.getrandbits(64) if params.seed is None else params.seed
            self._generators[sequence.key] = _Uniforms(own + sequence.index)
        if has_penalties(params):
            self._histories[sequence.key] = TokenHistory()

    def forget(self, sequence: Sequence) -> None:
        self._generators.pop(sequence.key, None)
        self._histories.pop(sequence.key, None)

    @torch.inference_mode()
    def sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> SampledTokens:
        """`[len(sequences), vocab_size]` → a token each, or INVALID, or NOTHING_ALLOWED.

        Spoils `logits`.
        """
        num_top = {
            row: s.sampling.logprobs
            for row, s in enumerate(sequences)
            if s.sampling.logprobs is not None
        }
        raw = logits[list(num_top)].clone() if num_top else None
        is_processed = any(needs_processing(sequence) for sequence in sequences)
        if is_processed:
            logits = self._process(logits, sequences)
        best, token_ids = logits.max(dim=-1)
        self._draw(logits, sequences, token_ids)
        # The largest value of a row is NaN or infinite if any is that harms: one look suffices.
        token_ids = token_ids.masked_fill(~torch.isfinite(best), INVALID)
        if is_processed:
            token_ids = token_ids.masked_fill(best.isneginf(), NOTHING_ALLOWED)
        logprobs = None
        if raw is not None:
            picked = token_ids[list(num_top)].clamp_min(0)
            logprobs = RowLogprobs.of(raw, picked, max(num_top.values()))
        return SampledTokens(token_ids, HostCopy(token_ids), num_top, logprobs)

    def _process(self, logits: torch.Tensor, sequences: list[Sequence]) -> torch.Tensor:
        logits = logits.float()
        histories = [self._histories.get(sequence.key) for sequence in sequences]
        for sequence, history in zip(sequences, histories, strict=True):
            if history is not None:
                history.read(sequence)
        penalise(logits, sequences, histories)
        add_biases(logits, sequences)
        ban(logits, sequences, self._eos_token_ids)
        apply_masks(logits, sequences)
        return logits

    def _draw(
        self, logits: torch.Tensor, sequences: list[Sequence], token_ids: torch.Tensor
    ) -> None:
        """Replace the likeliest token by a drawn one in the rows that are not greedy."""
        rows = [row for row, s in enumerate(sequences) if not is_greedy(s.sampling)]
        if rows:
            drawing = [sequences[row] for row in rows]
            uniforms = [self._generators[s.key].at(s.num_tokens) for s in drawing]
            params = [sequence.sampling for sequence in drawing]
            token_ids[rows] = draw(logits[rows], params, uniforms)


class _Uniforms:
    """A sequence's random numbers, one for each token; a step that is done again gets the same."""

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)
        self._last_place, self._last = -1, 0.0

    def at(self, place: int) -> float:
        """Of the token at `place`; places come in ascending order."""
        if place != self._last_place:
            self._last_place, self._last = place, self._generator.random()
        return self._last


def is_greedy(params: SamplingParams) -> bool:
    return params.temperature < _MIN_TEMPERATURE or params.top_k == 1


def has_penalties(params: SamplingParams) -> bool:
    is_repetition_penalised = params.repetition_penalty != 1.0
    return is_repetition_penalised or bool(params.presence_penalty or params.frequency_penalty)


def needs_processing(sequence: Sequence) -> bool:
    """Whether its logits are changed in this step, which needs its tokens on the host."""
    params = sequence.sampling
    return (
        has_penalties(params)
        or bool(params.logit_bias or params.bad_words)
        or params.allowed_token_ids is not None
        or sequence.num_completion_tokens < params.min_tokens
        or sequence.grammar is not None
    )
