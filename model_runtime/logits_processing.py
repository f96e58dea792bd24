"""What a request does to its logits before a token is picked: penalties, biases, bans, masks.

Each function takes the rows that ask for it, all at once. Rows that ask for nothing stay as
they are.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from model_runtime.sequence import Sequence

Bitmask = npt.NDArray[np.int32]

logger = logging.getLogger(__name__)


class TokenMask(Protocol):
    """A grammar's state: which tokens may come next."""

    def bitmask(self) -> Bitmask:
        """`[ceil(vocab_size / 32)]`; bit `i % 32` of word `i // 32` allows token i."""
        ...

    def accept(self, token_id: int) -> None: ...


class TokenHistory:
    """The tokens of one sequence as penalties see them; reads each token once."""

    def __init__(self) -> None:
        self.completion_counts: Counter[int] = Counter()
        self.seen: set[int] = set()
        self._num_read = 0

    def read(self, sequence: Sequence) -> None:
        """Take in what was appended since the last call."""
        new = sequence.token_ids[self._num_read :]
        self.seen.update(new)
        first_completion = max(0, sequence.num_prompt_tokens - self._num_read)
        self.completion_counts.update(new[first_completion:])
        self._num_read = sequence.num_tokens


class _Entries:
    """Single logits `(row, token, value)` of many rows, gathered into one indexed operation."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._tokens: list[int] = []
        self._values: list[float] = []

    def add(self, row: int, tokens: Iterable[int], values: Iterable[float] | float) -> None:
        tokens = list(tokens)
        self._rows += [row] * len(tokens)
        self._tokens += tokens
        self._values += [values] * len(tokens) if isinstance(values, float) else list(values)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def index(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(self._rows, device=device), torch.tensor(self._tokens, device=device)

    def values(self, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self._values, dtype=like.dtype, device=like.device)


def penalise(
    logits: torch.Tensor, sequences: list[Sequence], histories: list[TokenHistory | None]
) -> None:
    """Repetition penalty (CTRL, Keskar et al., 2019) over prompt and answer, then OpenAI's
    presence and frequency penalties over the answer."""
    repeated, counted = _Entries(), _Entries()
    for row, (sequence, history) in enumerate(zip(sequences, histories, strict=True)):
        if history is None:
            continue
        params, counts = sequence.sampling, history.completion_counts
        if params.repetition_penalty != 1.0:
            repeated.add(row, history.seen, float(params.repetition_penalty))
        if params.presence_penalty or params.frequency_penalty:
            weights = [
                params.presence_penalty + params.frequency_penalty * n for n in counts.values()
            ]
            counted.add(row, counts, weights)
    if repeated:
        index = repeated.index(logits.device)
        scores, penalties = logits[index], repeated.values(logits)
        logits[index] = torch.where(scores > 0, scores / penalties, scores * penalties)
    if counted:
        logits[counted.index(logits.device)] -= counted.values(logits)


def add_biases(logits: torch.Tensor, sequences: list[Sequence]) -> None:
    entries = _Entries()
    for row, sequence in enumerate(sequences):
        if bias := sequence.sampling.logit_bias:
            entries.add(row, [token for token, _ in bias], [float(value) for _, value in bias])
    if entries:
        index = entries.index(logits.device)
        logits.index_put_(index, entries.values(logits), accumulate=True)


def ban(logits: torch.Tensor, sequences: list[Sequence], eos_token_ids: tuple[int, ...]) -> None:
    """Forbid early stops (`min_tokens`), completed bad words, and all but the allowed tokens."""
    banned = _Entries()
    for row, sequence in enumerate(sequences):
        params = sequence.sampling
        if params.allowed_token_ids is not None:
            _keep_only(logits[row], params.allowed_token_ids)
        if sequence.num_completion_tokens < params.min_tokens:
            banned.add(row, {*eos_token_ids, *params.stop_token_ids}, -torch.inf)
        if params.bad_words:
            banned.add(row, _completed_by(sequence), -torch.inf)
    if banned:
        logits[banned.index(logits.device)] = -torch.inf


def apply_masks(logits: torch.Tensor, sequences: list[Sequence]) -> None:
    """Forbid what the sequences' grammars do not allow, and what their masks do not reach."""
    vocab_size = logits.shape[1]
    masks = {row: _bitmask(s, vocab_size) for row, s in enumerate(sequences) if s.grammar}
    if not masks:
        return
    words = torch.from_numpy(np.stack(list(masks.values()))).to(logits.device)
    bits = torch.arange(32, dtype=torch.int32, device=logits.device)
    is_allowed = (words[:, :, None] >> bits & 1).bool().flatten(1)[:, :vocab_size]
    rows = list(masks)
    logits[rows] = logits[rows].masked_fill(~is_allowed, -torch.inf)


def _bitmask(sequence: Sequence, vocab_size: int) -> Bitmask:
    """The grammar's mask, as long as the vocabulary. One that fails allows nothing."""
    mask = np.zeros(-(-vocab_size // 32), dtype=np.int32)
    try:
        assert sequence.grammar is not None
        words = sequence.grammar.bitmask()[: len(mask)]
        mask[: len(words)] = words
    except Exception:
        logger.exception("a grammar failed; its request is ended")
        mask[:] = 0
    return mask


def _keep_only(row: torch.Tensor, token_ids: tuple[int, ...]) -> None:
    allowed = torch.tensor(token_ids, device=row.device)
    kept = row[allowed]
    row.fill_(-torch.inf)
    row[allowed] = kept


def _completed_by(sequence: Sequence) -> list[int]:
    """Tokens that would complete a bad word, given the answer's end."""
    answer = sequence.completion_token_ids
    return [
        word[-1]
        for word in sequence.sampling.bad_words
        if len(word) == 1 or tuple(answer[-len(word) + 1 :]) == word[:-1]
    ]
