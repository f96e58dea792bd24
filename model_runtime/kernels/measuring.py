"""Tools of the GPU check: CUDA graphs, times, and one way to call torch's varlen attention."""

import inspect
import statistics
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn

Numbers = dict[str, float]
WARM_UPS = 3
REPLAYS = 7


def capture(run: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """`run` as a CUDA graph, and the tensor that a replay fills. Runs it first, to compile."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()
    return graph, output


def microseconds(run: Callable[[], torch.Tensor], repeats: int = 10) -> float:
    """The median time of `run` on the device, launches aside: `repeats` runs in one graph."""

    def chain() -> torch.Tensor:
        for _ in range(repeats - 1):
            run()
        return run()

    graph, _ = capture(chain)
    return statistics.median(_replay_us(graph) for _ in range(REPLAYS)) / repeats


def _replay_us(graph: torch.cuda.CUDAGraph) -> float:
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e3


def attend_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_lens: list[int],
    key_lens: list[int],
) -> Callable[[], torch.Tensor]:
    """A call of causal `varlen_attn` on packed rows, its lengths already on the device."""
    ends_q, ends_k = (
        torch.tensor([0, *accumulate(lens)], dtype=torch.int32, device=query.device)
        for lens in (query_lens, key_lens)
    )
    more: dict[str, Any] = {}
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # since torch 2.12
        more["enable_gqa"] = True

    def run() -> torch.Tensor:
        longest = max(query_lens), max(key_lens)
        output = varlen_attn(
            query, key, value, ends_q, ends_k, *longest, window_size=(-1, 0), **more
        )
        assert isinstance(output, torch.Tensor)
        return output

    return run
