"""Accuracy per kind of question: the whole sentence right, by teacher-forced argmax.

All argmaxes right under teacher forcing is the same as greedy decoding being right.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

import torch
from transformers import InternVLForConditionalGeneration

from model_runtime.demo.training.packing import Batch, Document, Encoder, collate, pack
from model_runtime.demo.training.samples import FAMILIES

HELD_OUT_SEED = "held out"
HELD_OUT = {"single": 60, "tiled": 90, "several": 40, "later": 12, "unknown": 25, "video": 70,
            "text": 60}  # fmt: skip
Scores = dict[str, tuple[float, int]]
"""Kind to share of right answers and number of answers."""


def answer_logits(
    model: InternVLForConditionalGeneration, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor | None]:
    """Float32 logits `[n, vocab]` of the answers' tokens, their places, and visual features."""
    output = model.model(
        input_ids=batch.ids,
        pixel_values=batch.pixels,
        attention_mask=batch.mask.to(model.dtype),
        position_ids=batch.positions,
        use_cache=False,
    )
    rows, columns = (batch.weights[:, 1:] > 0).nonzero(as_tuple=True)
    logits = model.lm_head(output.last_hidden_state[rows, columns]).float()
    targets = batch.ids[rows, columns + 1]
    return logits, targets, (rows, columns + 1), output.image_hidden_states


def held_out(encoder: Encoder, scale: float = 1.0) -> list[Document]:
    """The same documents every time; training never draws from this seed."""
    rng = Random(HELD_OUT_SEED)
    wanted = [(family, max(1, round(num * scale))) for family, num in HELD_OUT.items()]
    return [encoder.document(FAMILIES[name](rng)) for name, num in wanted for _ in range(num)]


@torch.no_grad()
def accuracy(
    model: InternVLForConditionalGeneration, docs: Sequence[Document], pad_id: int
) -> Scores:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for rows in pack(docs, 4000):
        batch = collate(rows, pad_id)
        logits, targets, places, _ = answer_logits(model, batch)
        good = torch.ones(batch.ids.shape, dtype=torch.bool)
        good[places] = logits.argmax(-1) == targets
        for index, row in enumerate(rows):
            start = 0
            for doc in row:
                for answer in doc.answers:
                    span = good[index, start + answer.start : start + answer.end]
                    kind = f"tiled_{answer.kind}" if doc.family == "tiled" else answer.kind
                    right[kind] += bool(span.all())
                    total[kind] += 1
                start += len(doc)
    return {kind: (right[kind] / total[kind], total[kind]) for kind in sorted(total)}


def format_scores(scores: Scores) -> str:
    overall = sum(share * num for share, num in scores.values())
    overall /= sum(num for _, num in scores.values())
    parts = " ".join(f"{kind} {share:.2f}" for kind, (share, _) in scores.items())
    return f"all {overall:.3f} | {parts}"
