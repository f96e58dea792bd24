"""Runs one scheduled step on the device: vision, embed, scatter, decoder, logits."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from model_runtime.batch import Batch, build_batch
from model_runtime.kv_cache import KVCache
from model_runtime.logprobs import RowLogprobs
from model_runtime.model import Model
from model_runtime.protocol import AddRequest, SamplingParams, TokenLogprobs
from model_runtime.scheduler import ScheduledSequence, ScheduledStep
from model_runtime.sequence import Sequence
from model_runtime.vision import VisionEncoder

logger = logging.getLogger(__name__)

_NO_LOGITS = torch.empty(0, 0)
_ROWS_SCORED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class RunnerOutput:
    """What a step computed."""

    logits: torch.Tensor  # [num_sampled, vocab_size], in the order of the sampling chunks
    prompt_logprobs: dict[str, list[TokenLogprobs]]  # by request, of the step's chunk


class ModelRunner:
    """Brings the model, its KV cache and the vision encoder together for a step."""

    def __init__(
        self,
        model: Model,
        cache: KVCache,
        vision: VisionEncoder,
        block_size: int,
        decode_graphs: Callable[[Batch], torch.Tensor] | None = None,
    ) -> None:
        """`decode_graphs`: computes the logits of a step without prompts, when there are any."""
        self._model = model
        self._cache = cache
        self._vision = vision
        self._block_size = block_size
        self._decode_graphs = decode_graphs

    @torch.inference_mode()
    def run(self, step: ScheduledStep, last_tokens: torch.Tensor | None) -> RunnerOutput:
        """Compute the step. `last_tokens`: what the step before sampled, on the device."""
        self._vision.encode(list(step.tiles.values()))
        if not step.sequences:
            return RunnerOutput(_NO_LOGITS, {})
        batch = build_batch(
            step,
            self._block_size,
            self._cache.padding_block,
            self._model.device,
            last_tokens,
        )
        if self._decode_graphs is not None and not step.prefills:
            return RunnerOutput(self._decode_graphs(batch), {})
        embeddings = self._embed(step, batch)
        hidden = self._model.forward(embeddings, batch, self._cache)
        prompt_logprobs = self._prompt_logprobs(step, hidden)
        if not len(batch.sample_rows):
            return RunnerOutput(_NO_LOGITS, prompt_logprobs)
        return RunnerOutput(self._model.logits(hidden[batch.sample_rows]), prompt_logprobs)

    def scrub(self, blocks: list[int]) -> None:
        """Wipe KV blocks."""
        self._cache.scrub(blocks)

    def is_sound(self) -> bool:
        """Whether a prompt of one token gives logits, as it always does."""
        probe = Sequence(AddRequest("", [0], SamplingParams(max_tokens=1)), 0)
        probe.block_table = [self._cache.padding_block]
        step = ScheduledStep([ScheduledSequence(probe, 0, 1, samples=True)])
        try:
            return bool(torch.isfinite(self.run(step, None).logits).all())
        except Exception:
            logger.exception("the model does not compute")
            return False
        finally:
            self._cache.scrub(probe.block_table)

    def _prompt_logprobs(
        self, step: ScheduledStep, hidden: torch.Tensor
    ) -> dict[str, list[TokenLogprobs]]:
        """For the chunks of requests that want them: of each token after one in the chunk."""
        found, row = {}, 0
        for chunk in step.prefills:
            if chunk.sequence.wants_prompt_logprobs:
                rows = hidden[row : row + chunk.num_tokens]
                found[chunk.sequence.request_id] = self._score(chunk, rows)
            row += chunk.num_tokens
        return found

    def _score(self, chunk: ScheduledSequence, hidden: torch.Tensor) -> list[TokenLogprobs]:
        """A few rows at a time: a whole prompt's logits could be gigabytes."""
        following = chunk.sequence.token_ids[chunk.start + 1 : chunk.end + 1]
        num_top = chunk.sequence.sampling.prompt_logprobs or 0
        scores: list[TokenLogprobs] = []
        for first in range(0, len(following), _ROWS_SCORED_AT_ONCE):
            token_ids = following[first : first + _ROWS_SCORED_AT_ONCE]
            logits = self._model.logits(hidden[first : first + len(token_ids)])
            targets = torch.tensor(token_ids, device=hidden.device)
            rows = RowLogprobs.of(logits, targets, num_top)
            scores += rows.fetch([num_top] * len(token_ids))
        return scores

    def _embed(self, step: ScheduledStep, batch: Batch) -> torch.Tensor:
        """Token embeddings, with the media's embeddings in place of their placeholders.

        Positions are known on the host, so nothing is searched for on the device.
        """
        embeddings = self._model.embed(batch.input_ids)
        row = 0  # of the chunk's first token
        for chunk in step.prefills:
            for span in chunk.sequence.spans_between(chunk.start, chunk.end):
                first, last = max(span.start, chunk.start), min(span.end, chunk.end)
                part = self._vision.embedding(span.content_hash)[
                    first - span.start : last - span.start
                ]
                embeddings[row + first - chunk.start : row + last - chunk.start] = part
            row += chunk.num_tokens
        return embeddings
