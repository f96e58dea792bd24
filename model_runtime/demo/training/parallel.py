"""Data-parallel training over local processes of one thread each.

Two single-threaded processes train matrices this small about twice as fast as one process with
two threads does.
"""

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn


def launch(worker: Callable[..., None], num_processes: int, *args: object) -> None:
    """Run `worker(rank, *args)` in every process and wait for all of them."""
    port = 20000 + os.getpid() % 20000
    spawn(_start, args=(worker, num_processes, port, args), nprocs=num_processes)  # type: ignore[no-untyped-call]


def _start(
    rank: int,
    worker: Callable[..., None],
    num_processes: int,
    port: int,
    args: tuple[object, ...],
) -> None:
    torch.set_num_threads(1)
    if num_processes > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=num_processes)
    worker(rank, *args)
    if num_processes > 1:
        dist.destroy_process_group()


def num_processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_(values: torch.Tensor) -> torch.Tensor:
    """Sum over processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def from_first(value: float) -> float:
    """The first process's value, so that clocks and settings agree everywhere."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)
