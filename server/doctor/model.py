"""The model's files: are they there and whole, and do they fit the memory. Downloads nothing."""

import json
from pathlib import Path

from model_runtime.checkpoint import (
    DEMO_MODEL_ID,
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
)
from server.doctor.machine import Gpu, available_memory
from server.doctor.report import Finding
from server.settings import ServerSettings

_GIB = 1 << 30
_OVERHEAD = 1.2  # activations, and a KV cache worth having, beside the weights
_QUANTIZED = {  # share of the files' bytes, and bytes of what is left as it is (vision tower, ...)
    "int8": (0.52, 400_000_000),
    "bitsandbytes-8bit": (0.52, 750_000_000),
    "bitsandbytes": (0.35, 900_000_000),
}


def check_model(settings: ServerSettings, gpu: Gpu | None) -> list[Finding]:
    """`gpu`: the one that will hold the model; None: main memory does."""
    name = settings.model or DEMO_MODEL_ID
    try:
        folder = find_folder(settings)
        if folder is None:
            return _check_hub(settings, name, gpu)
        checkpoint = load_checkpoint(folder, name)
        num_bytes = weight_bytes(folder)
    except CheckpointError as error:
        return [Finding("model", "problem", str(error))]
    found = f"{name}: {_size(num_bytes)} of weights, context {checkpoint.context_len} tokens"
    return [Finding("model", "ok", found), _check_fit(settings, num_bytes, gpu)]


def find_folder(settings: ServerSettings) -> Path | None:
    """Where the files are; None for a hub id that is not downloaded. Raises CheckpointError."""
    model = settings.model
    if model is None or Path(model).is_dir() or model.startswith((".", "/", "~")):
        return resolve_checkpoint(model)
    from huggingface_hub import snapshot_download  # slow import, needed for hub ids only
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=settings.revision, local_files_only=True))
    except HFValidationError as error:
        raise CheckpointError(f"{model!r} is neither a folder nor a hub id.") from error
    except LocalEntryNotFoundError:
        return None


def weight_bytes(folder: Path) -> int:
    """Of all weight files. Raises CheckpointError when there is none or one is missing."""
    names = {path.name for path in folder.glob("*.safetensors")}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index.name} cannot be read: download it again.") from error
        if missing := sorted(wanted - names):
            raise CheckpointError(f"{len(missing)} weight files are missing, as {missing[0]}.")
    if not names:
        raise CheckpointError(f"There is no .safetensors file in {folder}.")
    return sum((folder / name).stat().st_size for name in names)


def _check_hub(settings: ServerSettings, name: str, gpu: Gpu | None) -> list[Finding]:
    """A model that is not downloaded: does the hub have it for us, and would it fit?"""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(name, revision=settings.revision, timeout=10, files_metadata=True)
    except HfHubHTTPError:
        advice = "check the name; a gated model needs HF_TOKEN in the environment"
        return [Finding("model", "problem", f"the hub does not give {name}", advice)]
    except (OfflineModeIsEnabled, OSError, RuntimeError, ValueError):
        return [_unreachable(name)]
    except Exception as error:  # of the HTTP library, whichever it is
        if "http" not in type(error).__module__:
            raise
        return [_unreachable(name)]
    files = info.siblings or []
    num_bytes = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
    found = f"{name}: {_size(num_bytes)} of weights are downloaded at the first start"
    return [Finding("model", "ok", found), _check_fit(settings, num_bytes, gpu)]


def _unreachable(name: str) -> Finding:
    advice = "check the network or proxy, or give a local folder"
    return Finding("model", "problem", f"{name} is not downloaded, the hub not reached", advice)


def held_bytes(num_bytes: int, quantization: str) -> int:
    """About so many bytes of memory for weights whose files have `num_bytes` in 16 bits."""
    share, exact = _QUANTIZED.get(quantization, (1.0, 0))
    return int(share * num_bytes + min(exact, num_bytes / 2))


def _check_fit(settings: ServerSettings, num_bytes: int, gpu: Gpu | None) -> Finding:
    room = available_memory()
    if gpu is not None:
        room = min(gpu.free_bytes, int(gpu.total_bytes * settings.gpu_memory_utilization))
    needed = int(held_bytes(num_bytes, settings.quantization) * _OVERHEAD)
    found = f"about {_size(needed)} needed, {_size(room)} free"
    if needed <= room:
        return Finding("memory", "ok", found)
    advice = "take a smaller model, --quantization, or a device with more memory"
    return Finding("memory", "problem", found, advice)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB" if num_bytes >= _GIB else f"{num_bytes >> 20} MiB"
