"""Python, libraries, device, port and limits. Asks a process of its own for torch's facts."""

import json
import resource
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from server.doctor.report import Finding, Outcome
from server.settings import ServerSettings

_TORCH_TIMEOUT_S = 120
_MIN_PYTHON = (3, 11)
_MIN_DESCRIPTORS = 4096
_GIB = 1 << 30
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "cuda_version": torch.version.cuda,
    "gpus": [
        {"name": torch.cuda.get_device_name(i), "memory": torch.cuda.mem_get_info(i)}
        for i in range(torch.cuda.device_count() if cuda else 0)
    ],
}))
"""


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Torch:
    version: str
    cuda_version: str | None  # None: a build for CPUs
    gpus: tuple[Gpu, ...]


def ask_torch(code: str = _ASK_TORCH) -> Torch | None:
    """None when torch cannot be imported."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_TORCH_TIMEOUT_S
        )
        facts = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    gpus = tuple(Gpu(gpu["name"], *gpu["memory"]) for gpu in facts["gpus"])
    return Torch(facts["version"], facts["cuda_version"], gpus)


def check_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= _MIN_PYTHON:
        return Finding("python", "ok", found)
    return Finding("python", "problem", found, "install Python 3.11 or newer")


def check_torch(torch: Torch | None) -> Finding:
    if torch is None:
        advice = f"reinstall it: {sys.executable} -m pip install -c constraints.txt torch"
        return Finding("torch", "problem", "cannot be imported", advice)
    build = f"for CUDA {torch.cuda_version}" if torch.cuda_version else "for CPUs"
    return Finding("torch", "ok", f"{torch.version} {build}")


def check_transformers() -> Finding:
    found = _version("transformers")
    if found is None:
        return Finding("transformers", "problem", "not installed", "pip install transformers")
    return Finding("transformers", "ok", found)


def check_packages(settings: ServerSettings, torch: Torch | None) -> list[Finding]:
    """Those that only some settings need."""
    needs_bits = settings.quantization.startswith("bitsandbytes")
    needs_triton = uses_gpu(settings, torch)
    return [
        _optional(
            "bitsandbytes", needs_bits, "problem", "pip install 'internvl-server[bitsandbytes]'"
        ),
        _optional("triton", needs_triton, "warning", "pip install triton, for fused kernels"),
    ]


def uses_gpu(settings: ServerSettings, torch: Torch | None) -> bool:
    has_gpu = torch is not None and bool(torch.gpus)
    return has_gpu if settings.device == "auto" else settings.device.startswith("cuda")


def chosen_gpu(settings: ServerSettings, torch: Torch | None) -> Gpu | None:
    """The GPU that the worker would take; None: the CPU, or there is no such GPU."""
    if torch is None or not uses_gpu(settings, torch):
        return None
    index = settings.device.partition(":")[2] or "0"
    is_there = index.isdigit() and int(index) < len(torch.gpus)
    return torch.gpus[int(index)] if is_there else None


def check_device(settings: ServerSettings, torch: Torch | None) -> Finding:
    gpu = chosen_gpu(settings, torch)
    if gpu is not None:
        free, total = gpu.free_bytes / _GIB, gpu.total_bytes / _GIB
        found = f"{gpu.name}, {free:.1f} of {total:.1f} GiB free"
        if gpu.free_bytes >= gpu.total_bytes * settings.gpu_memory_utilization:
            return Finding("device", "ok", found)
        advice = "end what else uses the GPU, or lower --gpu-memory-utilization"
        return Finding("device", "warning", found, advice)
    if uses_gpu(settings, torch):
        advice = (
            "check the driver with nvidia-smi and that torch is a CUDA build, or take --device cpu"
        )
        return Finding("device", "problem", f"there is no {settings.device}", advice)
    return Finding("device", "ok", f"CPU, {available_memory() / _GIB:.1f} GiB of memory available")


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes of main memory that this process may still take; a container's limit counts."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    try:
        limit = int((cgroup / "memory.max").read_text())
        return min(available, limit - int((cgroup / "memory.current").read_text()))
    except (OSError, ValueError):  # no cgroup here, or no limit ("max")
        return available


def check_port(settings: ServerSettings) -> Finding:
    place = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        advice = "end what listens there, or take another --port or --host"
        return Finding("port", "problem", f"{place}: {error.strerror}", advice)
    return Finding("port", "ok", f"{place} is free")


def check_descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _MIN_DESCRIPTORS or soft == resource.RLIM_INFINITY:
        return Finding("descriptors", "ok", f"{soft} files may be open")
    advice = f"each connection needs one: ulimit -n {min(hard, 65_536)}"
    return Finding("descriptors", "warning", f"{soft} files may be open", advice)


def _optional(name: str, is_needed: bool, outcome: Outcome, advice: str) -> Finding:
    """`outcome`: when it is needed and not there."""
    found = _version(name)
    if found is not None:
        return Finding(name, "ok", found)
    if not is_needed:
        return Finding(name, "ok", "not installed, and not needed by these settings")
    return Finding(name, outcome, "not installed", advice)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
