"""Turns one uniform number per row into a token: the inverse of the cumulative distribution.

Everything is computed row by row, so what a row draws depends on its own logits, parameters
and number alone, never on its neighbours.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from model_runtime.protocol import SamplingParams

NUM_CANDIDATES = 1024  # likeliest tokens that the filters look at before they sort them all
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class _Filters:
    """The rows' limits as columns `[num_rows, 1]`, float64. No top_k: infinity."""

    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor

    @classmethod
    def of(cls, params: list[SamplingParams], vocab_size: int, device: torch.device) -> "_Filters":
        return cls(
            _column([p.top_k if 0 < p.top_k < vocab_size else torch.inf for p in params], device),
            _column([p.top_p for p in params], device),
            _column([p.min_p for p in params], device),
        )

    def __getitem__(self, rows: torch.Tensor) -> "_Filters":
        return _Filters(self.top_k[rows], self.top_p[rows], self.min_p[rows])


def draw(logits: torch.Tensor, params: list[SamplingParams], uniforms: list[float]) -> torch.Tensor:
    """`[num_rows, vocab_size]`, numbers in [0, 1) → token ids `[num_rows]`.

    Temperature first, then top_k, top_p over what is left, min_p relative to the likeliest.
    """
    device = logits.device
    temperatures = _column([p.temperature for p in params], device).float()
    below_best = logits.float() - logits.amax(-1, keepdim=True)  # no quotient overflows
    probs = torch.softmax(below_best.div_(temperatures), dim=-1)
    numbers = _column(uniforms, device)
    picked = torch.empty(len(params), dtype=torch.long, device=device)
    is_filtered = [_is_filtered(p, logits.shape[1]) for p in params]
    for wanted, pick in ((False, _pick_any), (True, _pick_filtered)):
        rows = [row for row, is_one in enumerate(is_filtered) if is_one is wanted]
        if rows:
            subset = [params[row] for row in rows]
            picked[rows] = pick(probs[rows], numbers[rows], subset)
    return picked


def _is_filtered(params: SamplingParams, vocab_size: int) -> bool:
    return 0 < params.top_k < vocab_size or params.top_p < 1 or params.min_p > 0


def _pick_any(
    probs: torch.Tensor, numbers: torch.Tensor, params: list[SamplingParams]
) -> torch.Tensor:
    """No filter: nothing is sorted. First the chunk of the vocabulary, then the token in it."""
    chunks = F.pad(probs, (0, -probs.shape[1] % _CHUNK)).view(len(probs), -1, _CHUNK)
    chunk, number = _invert(chunks.sum(-1).double(), numbers)
    inside = chunks.gather(1, chunk[:, :, None].expand(-1, 1, _CHUNK)).squeeze(1).double()
    token, _ = _invert(inside, number)
    return (chunk * _CHUNK + token).squeeze(1)


def _pick_filtered(
    probs: torch.Tensor, numbers: torch.Tensor, params: list[SamplingParams]
) -> torch.Tensor:
    """Among the likeliest candidates; rows whose filters reach further are sorted whole."""
    filters = _Filters.of(params, probs.shape[1], probs.device)
    num_candidates = min(NUM_CANDIDATES, probs.shape[1])
    top, token_ids = probs.topk(num_candidates)
    picked, is_enough = _pick_sorted(top.double(), numbers, filters)
    tokens = token_ids.gather(1, picked).squeeze(1)
    if num_candidates < probs.shape[1] and not bool(is_enough.all()):
        rows = (~is_enough).nonzero().squeeze(1)
        top, token_ids = probs[rows].sort(dim=-1, descending=True, stable=True)
        picked, _ = _pick_sorted(top.double(), numbers[rows], filters[rows])
        tokens[rows] = token_ids.gather(1, picked).squeeze(1)
    return tokens


def _pick_sorted(
    probs: torch.Tensor, numbers: torch.Tensor, filters: _Filters
) -> tuple[torch.Tensor, torch.Tensor]:
    """`probs`: the likeliest first. The place picked in each row, and whether a filter ended
    within the row, so that tokens beyond it would not have changed the pick."""
    num_ranks = probs.shape[1]
    ranks = torch.arange(num_ranks, device=probs.device)
    in_top_k = ranks < filters.top_k
    kept = probs * in_top_k
    # With top_k the others are gone before top_p counts; else the whole vocabulary's mass is 1.
    has_top_k = filters.top_k.isfinite()
    total = torch.where(has_top_k, kept.sum(-1, keepdim=True), torch.ones_like(filters.top_p))
    mass_before = kept.cumsum(-1) - kept
    is_kept = in_top_k & (mass_before < filters.top_p * total)
    is_kept &= probs >= filters.min_p * probs[:, :1]
    is_kept |= ranks == 0
    picked, _ = _invert(kept * is_kept, numbers)
    is_enough = torch.where(has_top_k, filters.top_k <= num_ranks, ~is_kept[:, -1:])
    return picked, is_enough.squeeze(1)


def _invert(weights: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cumulative weights `[num_rows, n]` pass each number's share of their sum.

    Also how far into that place the number lies, again in [0, 1).
    """
    cumulative = weights.cumsum(-1)
    targets = numbers * cumulative[:, -1:]
    last = weights.shape[1] - 1
    place = torch.searchsorted(cumulative, targets, right=True).clamp_max(last)
    weight = weights.gather(1, place)
    before = cumulative.gather(1, place) - weight
    return place, ((targets - before) / weight).clamp(0, 1 - 1e-12)


def _column(values: list[float] | list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]
