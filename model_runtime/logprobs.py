"""Log-probabilities for clients: of the model's own distribution, before any processing."""

from dataclasses import dataclass

import torch

from model_runtime.host_copy import HostCopy
from model_runtime.protocol import TokenLogprobs


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """Rows of logits boiled down to what clients may see; on their way until they are fetched."""

    token_ids: HostCopy  # [num_rows]
    logprobs: HostCopy  # [num_rows]
    ranks: HostCopy  # [num_rows], 1 is the likeliest
    top_ids: HostCopy  # [num_rows, num_top]
    top_logprobs: HostCopy  # [num_rows, num_top]

    @classmethod
    def of(cls, logits: torch.Tensor, token_ids: torch.Tensor, num_top: int) -> "RowLogprobs":
        """`logits`: `[num_rows, vocab_size]`; `token_ids`: the token in question of each row."""
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        own = logprobs.gather(1, token_ids[:, None])
        top = logprobs.topk(min(num_top, logprobs.shape[1]), dim=-1)
        ranks = (logprobs > own).sum(-1) + 1
        columns = (token_ids, own.squeeze(1), ranks, top.indices, top.values)
        return cls(*(HostCopy(column) for column in columns))

    def fetch(self, num_top: list[int]) -> list[TokenLogprobs]:
        """On the host; `num_top`: how many alternatives each row's request wants."""
        columns = (self.token_ids, self.logprobs, self.ranks, self.top_ids, self.top_logprobs)
        rows = zip(num_top, *(column.fetch().tolist() for column in columns), strict=True)
        return [
            TokenLogprobs(token_id, logprob, rank, list(zip(ids[:n], values[:n], strict=True)))
            for n, token_id, logprob, rank, ids, values in rows
        ]
