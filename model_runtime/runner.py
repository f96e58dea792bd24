"""Runs one scheduled step on the device: vision, embed, scatter, decoder, logits."""

import torch

from model_runtime.batch import Batch, build_batch
from model_runtime.kv_cache import KVCache
from model_runtime.model import Model
from model_runtime.scheduler import ScheduledStep
from model_runtime.vision import VisionEncoder

_NO_LOGITS = torch.empty(0, 0)


class ModelRunner:
    """Brings the model, its KV cache and the vision encoder together for a step."""

    def __init__(
        self, model: Model, cache: KVCache, vision: VisionEncoder, block_size: int
    ) -> None:
        self._model = model
        self._cache = cache
        self._vision = vision
        self._block_size = block_size

    @torch.inference_mode()
    def run(self, step: ScheduledStep) -> torch.Tensor:
        """float32 logits `[num_sampled, vocab_size]`, in the order of the sampling chunks."""
        self._vision.encode(list(step.tiles.values()))
        if not step.sequences:
            return _NO_LOGITS
        batch = build_batch(step, self._block_size, self._model.device)
        embeddings = self._embed(step, batch)
        hidden = self._model.forward(embeddings, batch, self._cache)
        if not len(batch.sample_rows):
            return _NO_LOGITS
        return self._model.logits(hidden[batch.sample_rows]).float()

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
