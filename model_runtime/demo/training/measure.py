"""Accuracy of an exported checkpoint by kind of question, with real `generate` in float32.

python -m model_runtime.demo.training.measure --count 40

Unlike `evaluate`, this goes through the exported files, asks in the canonical wording first of
all, and encodes clips as H.264 before it samples their frames.
"""

import argparse
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import av
import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from model_runtime.demo.training.drawing import draw
from model_runtime.demo.training.questions import Turn
from model_runtime.demo.training.samples import FAMILIES, Sample
from model_runtime.demo.training.tiles import TOKENS_PER_TILE, Pixels, cut_tiles, label_tiles
from model_runtime.demo.training.train import SHIPPED
from model_runtime.demo.training.videos import clip_turns, random_clip
from model_runtime.demo.training.visual_words import MEAN, STD
from model_runtime.tiling import sample_frame_indices

SEED = "measure"
MAX_NEW_TOKENS = 192
FRAMES_PER_SECOND = 12


class Answerer:
    """A checkpoint folder that answers one conversation at a time, greedily."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        self.model = InternVLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    @torch.inference_mode()
    def answer(self, prompt: str, tiles: Pixels | None = None) -> str:
        """`tiles`: uint8 `[num_tiles, 112, 112, 3]` of all media in the order of the prompt."""
        ids = torch.tensor([self.tokenizer.encode(prompt, add_special_tokens=False)])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if tiles is not None and len(tiles):
            pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
            inputs["pixel_values"] = (pixels - MEAN) / STD
        output = self.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return str(self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))


def image_span(num_tiles: int) -> str:
    return f"<img>{'<IMG_CONTEXT>' * (TOKENS_PER_TILE * num_tiles)}</img>"


def prefix_text(sample: Sample) -> str:
    """The sample's prefix as the chat template and the processor write it."""
    return "".join(p if isinstance(p, str) else image_span(len(p)) for p in sample.prefix)


def conversations(sample: Sample) -> Iterator[tuple[str, Turn]]:
    """Every turn with the prompt that leads to it; earlier answers are the right ones."""
    for turns in sample.branches:
        prompt = prefix_text(sample)
        for index, (question, answer, kind) in enumerate(turns):
            prompt += "\n<|im_start|>user\n" if index else ""
            prompt += f"{question}<|im_end|>\n<|im_start|>assistant\n"
            yield prompt, (question, answer, f"follow-up {kind}" if index else kind)
            prompt += f"{answer}<|im_end|>"


def through_h264(frames: list[Image.Image]) -> list[Image.Image]:
    """The frames as an MP4 file gives them back."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame))))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        return [
            Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]


def encoded_video(rng: Random) -> Sample:
    """A clip of 1 to 4 seconds through a real codec, sampled as the server samples."""
    clip = random_clip(rng, rng.randint(1, 4) * FRAMES_PER_SECOND)
    decoded = through_h264([draw(frame, 2) for frame in clip.frames])
    kept = [decoded[i] for i in sample_frame_indices(len(decoded), 8)]
    prefix: list[str | Pixels] = ["<|im_start|>user\n"]
    for index, frame in enumerate(kept):
        prefix += [f"Frame{index + 1}: ", cut_tiles(frame, 1), "\n"]
    turns = tuple((turn,) for turn in clip_turns(rng, clip))
    return Sample("video", tuple(prefix), turns, label_tiles(clip.frames[0], 1))


def sample_tiles(sample: Sample) -> Pixels | None:
    tiles = [piece for piece in sample.prefix if not isinstance(piece, str)]
    return np.concatenate(tiles) if tiles else None


def measure(answerer: Answerer, count: int) -> dict[str, tuple[float, int]]:
    """Share of whole sentences right and number of questions, by kind."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    families = {**FAMILIES, "video": encoded_video}
    for family, make in families.items():
        rng = Random(f"{SEED}/{family}")
        for _ in range(count):
            sample = make(rng)
            for prompt, (_, answer, kind) in conversations(sample):
                right[kind] += answerer.answer(prompt, sample_tiles(sample)) == answer
                total[kind] += 1
    return {kind: (right[kind] / total[kind], total[kind]) for kind in sorted(total)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--count", type=int, default=40, help="samples of each family")
    args = parser.parse_args()
    scores = measure(Answerer(args.folder), args.count)
    print("| kind | right | asked |\n|---|---|---|")
    for kind, (share, asked) in scores.items():
        print(f"| {kind} | {share:.3f} | {asked} |")
    asked = sum(asked for _, asked in scores.values())
    overall = sum(share * num for share, num in scores.values()) / asked
    print(f"| **all** | **{overall:.3f}** | {asked} |")


if __name__ == "__main__":
    main()
