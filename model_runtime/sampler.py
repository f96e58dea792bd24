"""Picks the next token of each sequence, each by its own parameters, the whole batch at once.

A sequence's randomness is its own: one uniform number per step from a generator seeded by the
request, turned into a token by the inverse of the cumulative distribution. So the same seed
gives the same text whatever else is in the batch. There is no process-wide seed.
"""

import random
from collections import Counter

import torch

from model_runtime.protocol import SamplingParams
from model_runtime.sequence import Sequence

INVALID = -1  # picked for a row whose logits are not finite


class Sampler:
    """Owns one random generator per live sequence that samples."""

    def __init__(self, eos_token_ids: tuple[int, ...], seed: int) -> None:
        self._eos_token_ids = eos_token_ids
        self._seeds = random.Random(seed)  # for requests that bring none
        self._generators: dict[tuple[str, int], random.Random] = {}

    def add(self, sequence: Sequence) -> None:
        if not sequence.sampling.is_greedy:
            seed = sequence.sampling.seed
            own = self._seeds.getrandbits(64) if seed is None else seed
            self._generators[sequence.request_id, sequence.index] = random.Random(
                own + sequence.index
            )

    def forget(self, sequence: Sequence) -> None:
        self._generators.pop(sequence.key, None)

    def sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> list[int]:
        """float32 `[len(sequences), vocab_size]` → a token id each, or INVALID."""
        is_finite = torch.isfinite(logits).all(dim=-1).tolist()
        self._penalise(logits, sequences)
        self._forbid_early_stops(logits, sequences)
        picked: list[int] = logits.argmax(dim=-1).tolist()
        self._draw_random_rows(logits, sequences, picked)
        return [token if ok else INVALID for token, ok in zip(picked, is_finite, strict=True)]

    def _draw_random_rows(
        self, logits: torch.Tensor, sequences: list[Sequence], picked: list[int]
    ) -> None:
        rows = [i for i, sequence in enumerate(sequences) if not sequence.sampling.is_greedy]
        if not rows:
            return
        uniforms = [self._generators[sequences[i].key].random() for i in rows]
        tokens = draw(logits[rows], [sequences[i].sampling for i in rows], uniforms)
        for row, token in zip(rows, tokens, strict=True):
            picked[row] = token

    def _penalise(self, logits: torch.Tensor, sequences: list[Sequence]) -> None:
        for row, sequence in enumerate(sequences):
            params = sequence.sampling
            if params.repetition_penalty != 1.0:
                _penalise_repetition(logits[row], sequence.token_ids, params.repetition_penalty)
            if params.presence_penalty or params.frequency_penalty:
                _penalise_counts(logits[row], sequence.completion_token_ids, params)

    def _forbid_early_stops(self, logits: torch.Tensor, sequences: list[Sequence]) -> None:
        for row, sequence in enumerate(sequences):
            if sequence.num_completion_tokens < sequence.sampling.min_tokens:
                stops = [*self._eos_token_ids, *sequence.sampling.stop_token_ids]
                logits[row, stops] = -torch.inf


def draw(logits: torch.Tensor, params: list[SamplingParams], uniforms: list[float]) -> list[int]:
    """Sample each row after temperature, then top_k, top_p and min_p on the sorted probabilities.

    Ties and the order of equal tokens are settled by a stable sort.
    """
    device = logits.device

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)[:, None]

    temperatures = column([p.temperature for p in params]).clamp_min(1e-5)
    probs = torch.softmax(logits.double() / temperatures, dim=-1)
    probs, token_ids = probs.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(probs.shape[-1], device=device)
    probs = probs * (ranks < column([p.top_k or probs.shape[-1] for p in params]))
    probs = probs / probs.sum(dim=-1, keepdim=True)
    mass_before = probs.cumsum(dim=-1) - probs
    is_kept = (mass_before < column([p.top_p for p in params])) | (ranks == 0)
    is_kept &= probs >= column([p.min_p for p in params]) * probs[:, :1]
    cumulative = (probs * is_kept).cumsum(dim=-1)
    targets = column(uniforms) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, targets, right=True)
    chosen = chosen.clamp_max(probs.shape[-1] - 1)
    picked: list[int] = token_ids.gather(-1, chosen).squeeze(-1).tolist()
    return picked


def _penalise_repetition(row: torch.Tensor, token_ids: list[int], penalty: float) -> None:
    """Divide positive, multiply negative logits of tokens seen in prompt or answer (CTRL paper)."""
    seen = torch.tensor(sorted(set(token_ids)), device=row.device)
    scores = row[seen]
    row[seen] = torch.where(scores > 0, scores / penalty, scores * penalty)


def _penalise_counts(row: torch.Tensor, token_ids: list[int], params: SamplingParams) -> None:
    """OpenAI's presence and frequency penalties over the tokens of the answer."""
    if not token_ids:
        return
    counts = Counter(token_ids)
    seen = torch.tensor(list(counts), device=row.device)
    times = torch.tensor(list(counts.values()), dtype=row.dtype, device=row.device)
    row[seen] -= params.presence_penalty + params.frequency_penalty * times
