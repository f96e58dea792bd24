"""Compiles every kernel for a GPU, without one: `python -m tests.model_runtime.compile_kernels`.

The interpreter accepts much that the compiler does not. Prints a kernel's name when it is done.
"""

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from model_runtime.kernels import paged_decode, rms_norm, rope_cache, silu_mul

HOPPER = GPUTarget("cuda", 90, 32)


def compile_kernel(kernel: Any, types: str, num_stages: int = 3, **constants: object) -> None:
    """Compile `kernel` for arguments of `types`, where `*` is a pointer to bfloat16."""
    names = kernel.arg_names
    given = ["*bf16" if name == "*" else name for name in types.split()]
    signature = dict(zip(names, given, strict=False)) | dict.fromkeys(constants, "constexpr")
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(given) if "*" in name}
    source = ASTSource(kernel, signature, constexprs, aligned)
    compiled = triton.compile(source, target=HOPPER, options={"num_stages": num_stages})
    sys.stdout.write(f"{kernel.__name__} {compiled.metadata.shared}\n")


def main() -> None:
    norm, silu = rms_norm._rms_norm_kernel, silu_mul._silu_mul_kernel
    compile_kernel(norm, "* * * * i32 fp32", HAS_RESIDUAL=True, BLOCK=1024)
    compile_kernel(silu, "* * i32", BLOCK=1024)
    heads = {"NUM_HEADS": 14, "NUM_KV_HEADS": 2, "HALF": 32, "HEADS": 8}
    types = "* i32 *i64 *fp32 *i64 * * * * fp32"
    compile_kernel(rope_cache._rotate_and_cache_kernel, types, HAS_NORM=True, **heads)
    sizes = {"GROUP": 7, "ROWS": 16, "HEAD_DIM": 128, "BLOCK_SIZE": 64, "TILE": 64}
    types = "* i32 * * *i32 i32 *i32 *fp32 *fp32 fp32"
    compile_kernel(paged_decode._split_kernel, types, num_stages=5, **sizes)
    sizes = {"SPLITS": 32, "HEAD_DIM": 128, "TILE": 64}
    compile_kernel(paged_decode._merge_kernel, "*fp32 *fp32 *i32 * i32", **sizes)


if __name__ == "__main__":
    main()
