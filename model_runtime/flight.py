"""A launched step, between the moment it is given to the device and the moment it is settled."""

from dataclasses import dataclass, field

import torch

from model_runtime.protocol import FinishReason, SequenceOutput, TokenLogprobs
from model_runtime.sampler import Sampled, SampledTokens
from model_runtime.scheduler import ScheduledSequence, ScheduledStep


@dataclass(slots=True)
class Flight:
    """What a step computes, and where its results will be."""

    step: ScheduledStep
    sampling: list[ScheduledSequence]
    beginning: set[str]  # whose prompts or pictures it computes
    sampled: SampledTokens | None = None
    prompt_logprobs: dict[str, list[TokenLogprobs]] = field(default_factory=dict)
    failure: Exception | None = None

    @property
    def token_ids(self) -> torch.Tensor | None:
        """`[num_sampled]`, on the device."""
        return self.sampled.token_ids if self.sampled is not None else None

    def fetch(self) -> list[Sampled]:
        """The tokens on the host; waits for the device."""
        return self.sampled.fetch() if self.sampled is not None else []


def sequence_output(
    chunk: ScheduledSequence, sampled: Sampled, reason: FinishReason | None
) -> SequenceOutput:
    """What the chunk's sequence tells the front end."""
    sequence = chunk.sequence
    is_first = chunk.end == sequence.num_prompt_tokens
    wants_scores = is_first and sequence.sampling.prompt_logprobs is not None and not sequence.index
    return SequenceOutput(
        sequence.request_id,
        [sampled.token_id],
        reason,
        index=sequence.index,
        num_cached_tokens=sequence.num_cached_tokens,
        scheduled_s=sequence.scheduled_s,
        num_preemptions=sequence.num_preemptions,
        logprobs=[sampled.logprobs] if sampled.logprobs is not None else None,
        prompt_logprobs=[None, *sequence.prompt_logprobs] if wants_scores else None,
    )
