"""How fast is this device at what the server asks of it?

A measurement raises where the number is so low that the design's sums no longer hold.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
import triton
import triton.language as tl

from model_runtime.kernels.checks import GROUPS, paged_context
from model_runtime.kernels.measuring import Numbers, microseconds
from model_runtime.kernels.paged_decode import choose_num_splits, paged_decode

CONTEXT_LEN = 2048
CONTEXT_BYTES = 256 << 20  # more than any cache on the device holds
DECODE_SHARE = 0.5  # of the bandwidth of a copy
MAX_NODE_US = 5.0
GEMM_ROWS = [1, 16, 64, 256, 1856]
GEMM_LAYERS = 8  # with weights of their own, so that they do not stay in the L2 cache
LAYER_SHAPES = [(896, 1152), (896, 896), (896, 9728), (4864, 896)]  # of 1B: qkv, o, gate_up, down
VOCAB_SIZE = 151674


def measure_copy(device: torch.device) -> Numbers:
    """Bytes read and written by a large copy."""
    source = torch.empty(1 << 29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {"gb_per_s": 2 * source.nbytes / microseconds(lambda: target.copy_(source)) / 1e3}


def measure_decode(
    num_heads: int, num_kv_heads: int, head_dim: int, device: torch.device
) -> Numbers:
    """Bandwidth over long contexts of a full batch, the best launch of some, and a small batch."""
    batch = CONTEXT_BYTES // (CONTEXT_LEN * num_kv_heads * head_dim * 2 * 2)
    context = paged_context(device, torch.bfloat16, batch, CONTEXT_LEN, num_kv_heads, head_dim)
    query = torch.randn(batch, num_heads, head_dim, device=device, dtype=torch.bfloat16)
    lens = torch.full((batch,), CONTEXT_LEN, dtype=torch.int32, device=device)
    processors = torch.cuda.get_device_properties(device).multi_processor_count

    def time(rows: int, num_warps: int = 4, num_stages: int = 5) -> float:
        splits = choose_num_splits(rows, num_kv_heads, processors)
        keys, values, table = context
        part = (query[:rows], keys, values, table[:rows], lens[:rows], head_dim**-0.5, splits)
        launch = partial(paged_decode, *part, num_warps=num_warps, num_stages=num_stages)
        return microseconds(launch)

    tried = {launch: time(batch, *launch) for launch in product((2, 4, 8), (3, 5))}
    best_warps, best_stages = min(tried, key=tried.__getitem__)
    usual = time(batch)
    numbers = {
        "gb_per_s": CONTEXT_BYTES / usual / 1e3,
        "share_of_copy": CONTEXT_BYTES / usual / 1e3 / measure_copy(device)["gb_per_s"],
        "best_gb_per_s": CONTEXT_BYTES / min(tried.values()) / 1e3,
        "best_num_warps": best_warps,
        "best_num_stages": best_stages,
        "us_at_batch_1": time(1),
        "us_at_batch_8": time(8),
    }
    assert numbers["share_of_copy"] >= DECODE_SHARE, numbers
    return numbers


@triton.jit
def _empty_kernel(nothing_ptr: tl.tensor) -> None:
    pass


def measure_graph_nodes(device: torch.device) -> Numbers:
    """Time of chains of kernels that do nothing: what a node of a graph costs."""
    nothing = torch.empty(1, device=device)

    def launch() -> torch.Tensor:
        _empty_kernel[(1,)](nothing)
        return nothing

    short, long = (microseconds(launch, repeats=length) * length for length in (240, 960))
    numbers = {"us_of_240": short, "us_of_960": long, "us_per_node": (long - short) / 720}
    assert numbers["us_per_node"] <= MAX_NODE_US, numbers
    return numbers


def measure_gemm(num_rows: int, device: torch.device) -> Numbers:
    """The four matrix products of a 1B layer, then its lm_head, in bfloat16."""
    layer = _time_products(num_rows, LAYER_SHAPES, GEMM_LAYERS, device)
    head = _time_products(num_rows, [(896, VOCAB_SIZE)], 1, device)
    return {**layer, **{f"head_{name}": number for name, number in head.items()}}


def _time_products(
    num_rows: int, shapes: list[tuple[int, int]], num_layers: int, device: torch.device
) -> Numbers:
    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, device=device, dtype=torch.bfloat16)

    weights = [[matrix(outs, ins) for ins, outs in shapes] for _ in range(num_layers)]
    inputs = [matrix(num_rows, ins) for ins, _ in shapes]

    def run() -> torch.Tensor:
        for layer in weights:
            for x, weight in zip(inputs, layer, strict=True):
                output = torch.nn.functional.linear(x, weight)
        return output

    us = microseconds(run, repeats=3) / num_layers
    size = sum(ins * outs for ins, outs in shapes)
    return {
        "us": us,
        "tflop_per_s": 2 * num_rows * size / us / 1e6,
        "gb_per_s": 2 * size / us / 1e3,
    }


def measure_argmax(device: torch.device) -> Numbers:
    """Greedy sampling of 64 sequences."""
    numbers: Numbers = {}
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.randn(64, VOCAB_SIZE, device=device).to(dtype)
        us = microseconds(lambda logits=logits: logits.argmax(-1))  # type: ignore[misc]
        name = str(dtype).removeprefix("torch.")
        numbers |= {f"{name}_us": us, f"{name}_gb_per_s": logits.nbytes / us / 1e3}
    return numbers


MEASUREMENTS: dict[str, Callable[[torch.device], Numbers]] = {
    "copy": measure_copy,
    **{
        f"paged_decode {num_heads // num_kv_heads}x{head_dim}": partial(
            measure_decode, num_heads, num_kv_heads, head_dim
        )
        for num_heads, num_kv_heads, head_dim in GROUPS
    },
    "graph nodes": measure_graph_nodes,
    **{f"GEMM of {num_rows} rows": partial(measure_gemm, num_rows) for num_rows in GEMM_ROWS},
    "argmax": measure_argmax,
}
