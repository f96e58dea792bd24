"""Reads what a checkpoint folder says about itself. Knows JSON files; never imports torch.

Front end and worker both read the facts here, so they cannot disagree. Nothing about tiles,
special tokens or sampling is a constant of ours: all of it is the checkpoint's own.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEMO_CHECKPOINT = Path(__file__).parent / "demo" / "checkpoint"
DEMO_MODEL_ID = "internvl-demo"
DEFAULT_NUM_FRAMES = 8
_ARCHITECTURE = "InternVLForConditionalGeneration"
_WEIGHT_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt"]


class CheckpointError(Exception):
    """The model cannot be served; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TileProcessing:
    """How pictures become tiles, from the checkpoint's image processor.

    InternVL3.5-HF ships a video processor with another size and other means than its image
    processor; frames therefore use the image processor's values too.
    """

    tile_height: int
    tile_width: int
    min_tiles: int
    max_tiles: int
    tokens_per_tile: int
    resample: int  # Pillow's number: 3 is bicubic
    rescale_factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_frames: int  # frames taken from a video when the request does not say


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The strings that stand for media in a prompt, as the checkpoint's tokenizer names them."""

    image_start: str = "<img>"
    image_end: str = "</img>"
    image_context: str = "<IMG_CONTEXT>"
    video: str = "<video>"


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """Sampling when the request does not say, from generation_config.json."""

    eos_token_ids: tuple[int, ...]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's facts. `model_id` is the name the user gave."""

    path: Path
    model_id: str
    context_len: int
    vocab_size: int
    image_token_id: int
    tiles: TileProcessing
    generation: GenerationDefaults
    chat_template: str
    special_tokens: SpecialTokens = field(default_factory=SpecialTokens)


def resolve_checkpoint(model: str | None, revision: str | None = None) -> Path:
    """The folder of `model`: the demo (None), a local folder, or a download from the hub."""
    if model is None:
        return DEMO_CHECKPOINT
    if Path(model).is_dir():
        return Path(model)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise CheckpointError(f"There is no folder {model!r}.")
    return _download(model, revision)


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download  # slow import, needed for hub ids only
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = snapshot_download(model, revision=revision, allow_patterns=_WEIGHT_PATTERNS)
    except HFValidationError as error:
        raise CheckpointError(f"{model!r} is neither a folder nor a hub id.") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"Could not download {model!r} from the Hugging Face hub ({type(error).__name__}). "
            "Check the name and the network, or give a local folder. "
            "Gated models need HF_TOKEN in the environment."
        ) from error
    return Path(path)


def load_checkpoint(path: Path, model_id: str) -> Checkpoint:
    """Read the facts of the checkpoint in `path`.

    Raises CheckpointError when a file is missing or the format is not the `-hf` one.
    """
    config = _read_json(path, "config.json", required=True)
    _check_format(config, model_id)
    text_config = config["text_config"]
    return Checkpoint(
        path=path,
        model_id=model_id,
        context_len=int(text_config["max_position_embeddings"]),
        vocab_size=int(text_config["vocab_size"]),
        image_token_id=int(config["image_token_id"]),
        tiles=_read_tiles(path, config),
        generation=_read_generation(path, text_config),
        chat_template=_read_chat_template(path),
        special_tokens=_read_special_tokens(path),
    )


def _check_format(config: dict[str, Any], model_id: str) -> None:
    architectures = config.get("architectures") or []
    if _ARCHITECTURE in architectures:
        return
    if "InternVLChatModel" in architectures or "auto_map" in config:
        name = model_id.rstrip("/").split("/")[-1]
        suffix = "-HF" if "3_5" in name else "-hf"
        raise CheckpointError(
            f"{model_id!r} is in InternVL's original (remote-code) format. "
            f"Use the Hugging Face format instead: {model_id.rstrip('/')}{suffix}"
        )
    raise CheckpointError(
        f"{model_id!r} is not an InternVL checkpoint: config.json names {architectures}, "
        f"expected {_ARCHITECTURE}."
    )


def _read_tiles(path: Path, config: dict[str, Any]) -> TileProcessing:
    processor = _read_json(path, "processor_config.json")
    image = _read_json(path, "preprocessor_config.json") or processor.get("image_processor") or {}
    video = _read_json(path, "video_preprocessor_config.json") or (
        processor.get("video_processor") or {}
    )
    height, width = _tile_size(image, config["vision_config"])
    return TileProcessing(
        tile_height=height,
        tile_width=width,
        min_tiles=int(image.get("min_patches", 1)),
        max_tiles=int(image.get("max_patches", 12)),
        tokens_per_tile=_tokens_per_tile(config, height, width),
        resample=int(image.get("resample", 3)),
        rescale_factor=float(image.get("rescale_factor", 1 / 255)),
        mean=_triple(image.get("image_mean", (0.485, 0.456, 0.406))),
        std=_triple(image.get("image_std", (0.229, 0.224, 0.225))),
        num_frames=int(video.get("num_frames") or DEFAULT_NUM_FRAMES),
    )


def _tile_size(image: dict[str, Any], vision_config: dict[str, Any]) -> tuple[int, int]:
    size = image.get("size")
    if size:
        return int(size["height"]), int(size["width"])
    height, width = _pair(vision_config["image_size"])
    return height, width


def _tokens_per_tile(config: dict[str, Any], height: int, width: int) -> int:
    patch_height, patch_width = _pair(config["vision_config"]["patch_size"])
    ratio = float(config.get("downsample_ratio", 0.5))
    return math.floor(height // patch_height * ratio) * math.floor(width // patch_width * ratio)


def _read_generation(path: Path, text_config: dict[str, Any]) -> GenerationDefaults:
    generation = _read_json(path, "generation_config.json")
    eos = generation.get("eos_token_id", text_config.get("eos_token_id"))
    eos_ids = tuple(eos) if isinstance(eos, list) else (eos,) if eos is not None else ()
    do_sample = bool(generation.get("do_sample", False))
    return GenerationDefaults(
        eos_token_ids=eos_ids,
        temperature=float(generation.get("temperature") or 1.0) if do_sample else 0.0,
        top_p=float(generation.get("top_p") or 1.0),
        top_k=int(generation.get("top_k") or 0) if do_sample else 0,
        repetition_penalty=float(generation.get("repetition_penalty") or 1.0),
    )


def _read_chat_template(path: Path) -> str:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json", "processor_config.json"):
        template = _read_json(path, name).get("chat_template")
        if isinstance(template, str):
            return template
    raise CheckpointError(f"No chat template in {path}: expected chat_template.jinja.")


def _read_special_tokens(path: Path) -> SpecialTokens:
    config = _read_json(path, "tokenizer_config.json")
    named = {**config, **(config.get("extra_special_tokens") or {})}
    default = SpecialTokens()
    return SpecialTokens(
        image_start=named.get("start_image_token", default.image_start),
        image_end=named.get("end_image_token", default.image_end),
        image_context=named.get("context_image_token", default.image_context),
        video=named.get("video_token", default.video),
    )


def _read_json(path: Path, name: str, *, required: bool = False) -> dict[str, Any]:
    file = path / name
    if not file.is_file():
        if required:
            raise CheckpointError(f"There is no {name} in {path}: not a checkpoint folder.")
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} does not hold a JSON object.")
    return content


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, list) else (int(value), int(value))


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)
