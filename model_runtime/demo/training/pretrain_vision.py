"""First phase: teach the vision tower and the projector to say what lies where.

python -m model_runtime.demo.training.pretrain_vision runs/demo --minutes 15
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import nn

from model_runtime.demo.training import parallel
from model_runtime.demo.training.architecture import (
    TEXT,
    TRAINING_ATTENTION,
    VISION_WORDS,
    build_config,
    build_model,
)
from model_runtime.demo.training.drawing import random_picture
from model_runtime.demo.training.optimizer import MasterOptimizer
from model_runtime.demo.training.scenes import random_scene
from model_runtime.demo.training.tiles import Labels, Pixels, cut_tiles, label_tiles
from model_runtime.demo.training.visual_words import pixel_values, word_loss

CHECKPOINT_NAME = "vision.pt"
SAVE_EVERY_S = 60.0
WARMUP_STEPS = 50
EASY_FRACTION = 0.25
"""Until this fraction of the time, scenes get gradually harder."""


class VisionModel(nn.Module):
    """Vision tower, projector and the words they learn; the codebook stands in for the LM's."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        model = build_model(build_config(32, 5, 2, 0), seed)
        model.set_attn_implementation(TRAINING_ATTENTION)
        self.internvl = model.model
        del self.internvl.language_model
        width = TEXT["hidden_size"]
        self.codebook_embed = nn.Parameter(torch.randn(len(VISION_WORDS), width) * 0.08)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """`[n, 3, 112, 112]` to `[n, 16, width]`."""
        features: torch.Tensor = self.internvl.get_image_features(
            pixels, vision_feature_layer=-1, vision_feature_select_strategy="default"
        ).pooler_output
        return features


def random_batch(rng: Random, size: int, difficulty: float) -> tuple[Pixels, Labels]:
    """`size` tiles with labels: whole pictures, and cells of larger ones."""
    tiles: list[Pixels] = []
    labels: list[Labels] = []
    while len(tiles) < size:
        scene = random_scene(rng, num_shapes=None if rng.random() < difficulty else 1)
        max_tiles = 4 if rng.random() < 0.4 * difficulty else 1
        cut = cut_tiles(random_picture(rng, scene), max_tiles)
        said = label_tiles(scene, max_tiles)
        for index in {len(cut) - 1, rng.randrange(len(cut))}:
            tiles.append(cut[index])
            labels.append(said[index])
    return np.stack(tiles[:size]), np.stack(labels[:size])


def train(rank: int, folder: Path, minutes: float, batch: int, rate: float, seed: int) -> None:
    """One process of the data-parallel training."""
    model = VisionModel(seed).bfloat16()
    optimizer = MasterOptimizer(model.named_parameters())
    step, elapsed, saved = 0, 0.0, 0.0
    path = folder / CHECKPOINT_NAME
    if path.exists():
        state = torch.load(path)
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed_s"]
    start = time.monotonic() - elapsed
    history: dict[str, list[float]] = defaultdict(list)
    while (fraction := parallel.from_first((time.monotonic() - start) / 60 / minutes)) < 1:
        rng = Random(f"vision/{seed}/{rank}/{step}")
        tiles, labels = random_batch(rng, batch, min(1.0, 0.1 + fraction / EASY_FRACTION))
        loss, right = word_loss(model(pixel_values(tiles)), labels, model.codebook_embed)
        (loss / parallel.num_processes()).backward()  # type: ignore[no-untyped-call]
        optimizer.accumulate()
        optimizer.step(rate * min(1.0, (step + 1) / WARMUP_STEPS) * (1 - 0.85 * fraction))
        step += 1
        for name, value in {"loss": float(loss.detach()), **right}.items():
            history[name].append(value)
        elapsed = time.monotonic() - start
        if rank == 0 and (elapsed - saved > SAVE_EVERY_S or fraction > 0.999):
            saved = elapsed
            _save(path, optimizer, step, elapsed)
        if rank == 0 and step % 100 == 0:
            means = " ".join(f"{name} {np.mean(values):.3f}" for name, values in history.items())
            print(f"vision {step} {elapsed / 60:.1f} min {means}", flush=True)
            history.clear()
    if rank == 0:
        _save(path, optimizer, step, elapsed)


def _save(path: Path, optimizer: MasterOptimizer, step: int, elapsed_s: float) -> None:
    """Replace the checkpoint in one move, so that a crash leaves a whole file."""
    state = {"optimizer": optimizer.state_dict(), "step": step, "elapsed_s": elapsed_s}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where checkpoints go; resumes what is there")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=48, help="tiles per process and step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    parallel.launch(
        train, args.processes, args.folder, args.minutes, args.batch, args.learning_rate, args.seed
    )


if __name__ == "__main__":
    main()
