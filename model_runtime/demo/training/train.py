"""Second phase: train the whole model to answer; resumes what is in the folder.

python -m model_runtime.demo.training.train runs/demo --minutes 45
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, InternVLForConditionalGeneration, PreTrainedTokenizerBase

from model_runtime.demo.training import parallel, pretrain_vision
from model_runtime.demo.training.architecture import (
    TRAINING_ATTENTION,
    VISION_WORDS,
    build_config,
    build_model,
)
from model_runtime.demo.training.evaluate import accuracy, answer_logits, format_scores, held_out
from model_runtime.demo.training.optimizer import MasterOptimizer
from model_runtime.demo.training.packing import Document, Encoder, collate, pack
from model_runtime.demo.training.samples import random_sample
from model_runtime.demo.training.settings import LiveSettings, read_settings
from model_runtime.demo.training.visual_words import word_loss

CHECKPOINT_NAME = "train.pt"
SHIPPED = Path(__file__).parent.parent / "checkpoint"
WORDS_WEIGHT = 0.1
MICRO_TOKENS = 2400
WARMUP_STEPS = 100
FLAT_FRACTION = 0.35
SAVE_EVERY_S = 90.0
EVALUATE_EVERY_S = 240.0
READ_SETTINGS_EVERY_S = 60.0


def load_tokenizer(folder: Path = SHIPPED) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def new_model(
    tokenizer: PreTrainedTokenizerBase, seed: int = 1
) -> InternVLForConditionalGeneration:
    names = ["<IMG_CONTEXT>", "<|im_end|>", "<|endoftext|>"]
    image_id, eos_id, pad_id = tokenizer.convert_tokens_to_ids(names)
    config = build_config(len(tokenizer), image_id, eos_id, pad_id)
    return build_model(config, seed)


@torch.no_grad()
def take_vision(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    weights: dict[str, torch.Tensor],
) -> torch.Tensor:
    """Copy pre-trained vision weights and words into the model; returns the codebook."""
    own = dict(model.named_parameters())
    for name, weight in weights.items():
        if name.startswith("internvl."):
            own[name.replace("internvl.", "model.", 1)].copy_(weight)
    codebook = weights["codebook_embed"]
    for word, row in zip(VISION_WORDS, codebook, strict=True):
        ids = tokenizer.encode(f" {word}", add_special_tokens=False)
        if len(ids) == 1:
            model.lm_head.weight[ids[0]].copy_(row)
    return codebook


def learning_rate(peak: float, step: int, fraction: float) -> float:
    """Warm up, stay, then fall linearly to 1 % at the end of the schedule."""
    fall = max(0.01, min(1.0, (1 - fraction) / (1 - FLAT_FRACTION)))
    return peak * fall * min(1.0, (step + 1) / WARMUP_STEPS)


class Trainer:
    """The model, its optimizer and how far they are."""

    def __init__(
        self, model: InternVLForConditionalGeneration, codebook: torch.Tensor, pad_id: int
    ) -> None:
        self.model = model.bfloat16()
        self.model.set_attn_implementation(TRAINING_ATTENTION)
        self.optimizer = MasterOptimizer(model.named_parameters(), vision_factor=0.5)
        self.codebook = codebook
        self.pad_id = pad_id
        self.num_steps = 0
        self.elapsed_s = 0.0

    def step(self, docs: Sequence[Document], rate: float) -> float:
        """One update on the documents of all processes; returns this process's loss."""
        total = sum(sum(doc.weights) for doc in docs)
        loss_sum = 0.0
        for rows in pack(docs, MICRO_TOKENS):
            batch = collate(rows, self.pad_id)
            logits, targets, places, features = answer_logits(self.model, batch)
            losses = F.cross_entropy(logits, targets, reduction="none") * batch.weights[places]
            loss = losses.sum() / total
            loss_sum += float(loss.detach())
            if features is not None and len(batch.labels):
                share = sum(len(row) for row in rows) / len(docs)
                said, _ = word_loss(features, batch.labels, self.codebook)
                loss = loss + WORDS_WEIGHT * share * said
            (loss / parallel.num_processes()).backward()  # type: ignore[no-untyped-call]
            self.optimizer.accumulate()
        self.optimizer.step(rate)
        self.num_steps += 1
        return loss_sum

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "codebook": self.codebook,
            "num_steps": self.num_steps,
            "elapsed_s": self.elapsed_s,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.codebook = state["codebook"]
        self.num_steps = state["num_steps"]
        self.elapsed_s = state["elapsed_s"]

    def save(self, path: Path) -> None:
        """Replace the file in one move, so that a crash leaves a whole one."""
        torch.save(self.state_dict(), path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def start_trainer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Trainer:
    """A trainer that resumes the folder's run, or begins from its pre-trained vision."""
    model = new_model(tokenizer)
    state = torch.load(folder / pretrain_vision.CHECKPOINT_NAME)
    codebook = take_vision(model, tokenizer, state["optimizer"]["masters"])
    trainer = Trainer(model, codebook, tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    if (folder / CHECKPOINT_NAME).exists():
        trainer.load_state_dict(torch.load(folder / CHECKPOINT_NAME))
    return trainer


class Timer:
    """True once every `interval_s`."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last = time.monotonic()

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._interval_s:
            return False
        self._last = now
        return True


def train(rank: int, folder: Path, default: LiveSettings, num_docs: int, seed: int) -> None:
    """One process of the data-parallel training."""
    tokenizer = load_tokenizer()
    encoder = Encoder(tokenizer)
    trainer = start_trainer(folder, tokenizer)
    settings = read_settings(folder / "settings.json", default)
    start = time.monotonic() - trainer.elapsed_s
    timers = [Timer(s) for s in (READ_SETTINGS_EVERY_S, SAVE_EVERY_S, EVALUATE_EVERY_S)]
    docs_held_out = held_out(encoder) if rank == 0 else []
    losses: list[float] = []
    while True:
        trainer.elapsed_s = parallel.from_first(time.monotonic() - start)
        fraction = trainer.elapsed_s / 60 / parallel.from_first(settings.minutes)
        if fraction >= 1:
            break
        rng = Random(f"train/{seed}/{rank}/{trainer.num_steps}")
        docs = [encoder.document(random_sample(rng, settings.mix)) for _ in range(num_docs)]
        peak = parallel.from_first(settings.learning_rate)
        losses.append(trainer.step(docs, learning_rate(peak, trainer.num_steps, fraction)))
        if timers[0].is_due():
            settings = read_settings(folder / "settings.json", settings)
        if rank == 0 and trainer.num_steps % 50 == 0:
            mean = sum(losses) / len(losses)
            losses.clear()
            minutes = trainer.elapsed_s / 60
            print(f"step {trainer.num_steps} {minutes:.1f} min loss {mean:.4f}", flush=True)
        if rank == 0 and timers[1].is_due():
            trainer.save(folder / CHECKPOINT_NAME)
        if rank == 0 and timers[2].is_due():
            print(format_scores(accuracy(trainer.model, docs_held_out, encoder.pad_id)), flush=True)
    if rank == 0:
        trainer.save(folder / CHECKPOINT_NAME)
        print(format_scores(accuracy(trainer.model, docs_held_out, encoder.pad_id)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the run: vision.pt, train.pt, settings.json")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--documents", type=int, default=16, help="per process and step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    default = LiveSettings(args.minutes, args.learning_rate)
    parallel.launch(train, args.processes, args.folder, default, args.documents, args.seed)


if __name__ == "__main__":
    main()
