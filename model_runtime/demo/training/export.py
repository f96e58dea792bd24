"""A training state as a checkpoint folder in the layout of InternVL3-hf.

python -m model_runtime.demo.training.export runs/demo model_runtime/demo/checkpoint
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, InternVLForConditionalGeneration

from model_runtime.demo.training.samples import SERVER_MAX_TILES
from model_runtime.demo.training.tiles import TILE_SIZE, TOKENS_PER_TILE
from model_runtime.demo.training.train import (
    CHECKPOINT_NAME,
    SHIPPED,
    load_tokenizer,
    new_model,
)

NUM_FRAMES = 8
PIXELS: dict[str, Any] = {
    "processor_class": "InternVLProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": TILE_SIZE, "width": TILE_SIZE},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
FILES: dict[str, dict[str, Any]] = {
    "preprocessor_config.json": {
        "image_processor_type": "GotOcr2ImageProcessor",
        "crop_to_patches": True,
        "min_patches": 1,
        "max_patches": SERVER_MAX_TILES,
        **PIXELS,
    },
    "video_preprocessor_config.json": {
        "video_processor_type": "InternVLVideoProcessor",
        "do_sample_frames": True,
        "num_frames": NUM_FRAMES,
        **PIXELS,
    },
    "processor_config.json": {
        "processor_class": "InternVLProcessor",
        "image_seq_length": TOKENS_PER_TILE,
    },
}


def exported_model(masters: dict[str, torch.Tensor]) -> InternVLForConditionalGeneration:
    """A float32 model with the masters' weights, ready to `save_pretrained`."""
    tokenizer = load_tokenizer()
    model = new_model(tokenizer)
    missing, unexpected = model.load_state_dict(masters, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=[end, pad], pad_token_id=pad
    )
    return model.eval()


def export(masters: dict[str, torch.Tensor], folder: Path) -> None:
    """Write every file but the tokenizer's, each replaced in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        exported_model(masters).save_pretrained(scratch)
        for name, content in FILES.items():
            Path(scratch, name).write_text(json.dumps(content, indent=2) + "\n")
        for path in Path(scratch).iterdir():
            path.chmod(0o644)
            path.replace(folder / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a training run")
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    args = parser.parse_args()
    state = torch.load(args.run / CHECKPOINT_NAME)
    if args.folder != SHIPPED:
        load_tokenizer().save_pretrained(args.folder)
    export(state["optimizer"]["masters"], args.folder)
    print(f"exported step {state['num_steps']}, {state['elapsed_s'] / 60:.1f} minutes")


if __name__ == "__main__":
    main()
