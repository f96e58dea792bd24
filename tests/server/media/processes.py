"""What a process holds, by /proc."""

import os
from pathlib import Path


def memory_used(pid: int | None = None) -> int:
    """Resident bytes."""
    return _status(pid, "VmRSS")


def memory_peak(pid: int | None = None) -> int:
    """The most resident bytes that it ever had."""
    return _status(pid, "VmHWM")


def num_descriptors(pid: int | None = None) -> int:
    return len(os.listdir(f"/proc/{pid or os.getpid()}/fd"))


def children() -> set[int]:
    """Processes that we started and that still are, dead ones too."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def _status(pid: int | None, name: str) -> int:
    lines = Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) << 10
