"""One query per sequence over its paged keys and values, the context split over programs.

    context of a sequence:   tile tile tile | tile tile tile | tile (short)
                                split 0     |    split 1     | split 2      splits 3.. exit

Stage 1, grid (sequence, KV head, split): the query heads that share a KV head are the rows of a
small matrix, padded to 16, that passes over the split's tiles with an online softmax. It leaves
a normalised output and the log2-sum-exp2 of its scores.
Stage 2, grid (sequence, head): weighs the used splits by those sums. One split needs no stage 2.
The grid depends on the batch's shape alone, never on the lengths: it suits a CUDA graph.
"""

import torch
import triton
import triton.language as tl

GROUP_ROWS = 16  # the least number of rows that tl.dot takes
MAX_SPLITS = 32
TILE_BYTES = 16384  # of keys that one step of the loop reads
LOG2_E = 1.4426950408889634


def choose_num_splits(batch: int, num_kv_heads: int, num_processors: int) -> int:
    """Splits that give each multiprocessor about two programs."""
    return min(max(-(-2 * num_processors // (batch * num_kv_heads)), 1), MAX_SPLITS)


def paged_decode(
    query: torch.Tensor,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    scale: float,
    num_splits: int,
    *,
    num_warps: int = 4,
    num_stages: int = 5,
) -> torch.Tensor:
    """Attention of each query to the first `context_len` tokens of its sequence.

    query: `[B, Hq, D]`; rows may be strided, as a part of the QKV GEMM's output is.
    key_pool, value_pool: `[num_blocks, block_size, Hkv, D]`, contiguous, block_size >= 16.
    block_table: `[B, max_blocks]` int32; entries beyond a context are not read.
    context_lens: `[B]` int32; a length of 0 gives zeros.
    num_splits: see `choose_num_splits`; any number <= 32 is correct.
    num_warps, num_stages: for tuning. Five stages keep two tiles in flight: the tiles' addresses
    come from the block table, which takes stages of its own.
    Returns `[B, Hq, D]`, contiguous.
    """
    batch, num_heads, head_dim = query.shape
    block_size, num_kv_heads = key_pool.shape[1:3]
    _check(query, key_pool, value_pool)
    assert block_table.stride(1) == 1 and 1 <= num_splits <= MAX_SPLITS
    output = query.new_empty(batch, num_heads, head_dim)
    sums = query.new_empty(batch, num_heads, num_splits, dtype=torch.float32)
    partials = output
    if num_splits > 1:
        partials = torch.empty(*sums.shape, head_dim, dtype=torch.float32, device=query.device)
    if not batch:
        return output
    tile = min(TILE_BYTES // (head_dim * key_pool.itemsize), 64)
    _split_kernel[(batch, num_kv_heads, num_splits)](
        query,
        query.stride(0),
        key_pool,
        value_pool,
        block_table,
        block_table.stride(0),
        context_lens,
        partials,
        sums,
        scale * LOG2_E,
        GROUP=num_heads // num_kv_heads,
        ROWS=GROUP_ROWS,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        TILE=tile,
        num_warps=num_warps,
        num_stages=num_stages,
    )
    if num_splits > 1:
        _merge_kernel[(batch, num_heads)](
            partials,
            sums,
            context_lens,
            output,
            num_splits,
            SPLITS=triton.next_power_of_2(num_splits),
            HEAD_DIM=head_dim,
            TILE=tile,
            num_warps=4,
        )
    return output


def _check(query: torch.Tensor, key_pool: torch.Tensor, value_pool: torch.Tensor) -> None:
    _, num_heads, head_dim = query.shape
    block_size, num_kv_heads = key_pool.shape[1:3]
    assert query.stride(2) == 1 and query.stride(1) == head_dim
    assert key_pool.is_contiguous() and value_pool.is_contiguous()
    assert key_pool.shape == value_pool.shape and key_pool.shape[3] == head_dim
    assert head_dim in (16, 32, 64, 128)
    assert block_size >= 16 and block_size & (block_size - 1) == 0
    assert num_heads % num_kv_heads == 0 and num_heads // num_kv_heads <= GROUP_ROWS


@triton.jit
def _tiles_per_split(context_len: tl.tensor, num_splits: int, TILE: tl.constexpr) -> tl.tensor:
    return tl.cdiv(tl.cdiv(context_len, TILE), num_splits)


@triton.jit
def _split_kernel(
    query_ptr: tl.tensor,  # [B, Hkv * GROUP, HEAD_DIM]
    query_stride: int,
    key_pool_ptr: tl.tensor,  # [num_blocks, BLOCK_SIZE, Hkv, HEAD_DIM]
    value_pool_ptr: tl.tensor,
    table_ptr: tl.tensor,  # [B, max_blocks]
    table_stride: int,
    context_lens_ptr: tl.tensor,  # [B]
    partials_ptr: tl.tensor,  # [B, Hkv * GROUP, num_splits, HEAD_DIM]
    sums_ptr: tl.tensor,  # [B, Hkv * GROUP, num_splits]
    scale: float,  # with log2(e) in it: exp2 is the cheaper exponential
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    sequence, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    num_kv_heads, num_splits = tl.num_programs(1), tl.num_programs(2)
    context_len = tl.load(context_lens_ptr + sequence)
    tiles = _tiles_per_split(context_len, num_splits, TILE)
    first = split * tiles * TILE
    end = tl.minimum(first + tiles * TILE, context_len)
    if (first >= end) & (split > 0):  # split 0 stays: it writes the zeros of an empty context
        return

    rows, columns = tl.arange(0, ROWS), tl.arange(0, HEAD_DIM)
    in_group = rows < GROUP
    heads = kv_head * GROUP + rows
    query_ptrs = query_ptr + sequence * query_stride + heads[:, None] * HEAD_DIM + columns[None, :]
    query = tl.load(query_ptrs, mask=in_group[:, None], other=0.0)  # [ROWS, HEAD_DIM]
    best = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    output = tl.zeros([ROWS, HEAD_DIM], tl.float32)
    for start in range(first, end, TILE):
        tokens = start + tl.arange(0, TILE)
        known = tokens < end
        block_ptrs = table_ptr + sequence * table_stride + tokens // BLOCK_SIZE
        block = tl.load(block_ptrs, mask=known, other=0)
        slots = block.to(tl.int64) * BLOCK_SIZE + tokens % BLOCK_SIZE
        offsets = (slots * num_kv_heads + kv_head)[:, None] * HEAD_DIM + columns[None, :]
        key = tl.load(key_pool_ptr + offsets, mask=known[:, None], other=0.0)  # [TILE, HEAD_DIM]
        value = tl.load(value_pool_ptr + offsets, mask=known[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale  # [ROWS, TILE]
        scores = tl.where(known[None, :], scores, float("-inf"))
        better = tl.maximum(best, tl.max(scores, axis=1))
        weights = tl.exp2(scores - better[:, None])
        shrink = tl.exp2(best - better)
        total = total * shrink + tl.sum(weights, axis=1)
        update = tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        output = output * shrink[:, None] + update
        best = better

    divisor = tl.where(total > 0, total, 1.0)
    partial = (sequence * num_kv_heads * GROUP + heads) * num_splits + split
    partial_ptrs = partials_ptr + partial[:, None] * HEAD_DIM + columns[None, :]
    tl.store(partial_ptrs, output / divisor[:, None], mask=in_group[:, None])
    # Nothing is known of an empty context; any finite sum makes the merge give its zeros back.
    log_sum = tl.where(total > 0, best + tl.log2(divisor), 0.0)
    tl.store(sums_ptr + partial, log_sum, mask=in_group)


@triton.jit
def _merge_kernel(
    partials_ptr: tl.tensor,  # [B, Hq, num_splits, HEAD_DIM]
    sums_ptr: tl.tensor,  # [B, Hq, num_splits]
    context_lens_ptr: tl.tensor,  # [B]
    output_ptr: tl.tensor,  # [B, Hq, HEAD_DIM]
    num_splits: int,
    SPLITS: tl.constexpr,  # power of two >= num_splits
    HEAD_DIM: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    sequence = tl.program_id(0).to(tl.int64)
    row = sequence * tl.num_programs(1) + tl.program_id(1)
    context_len = tl.load(context_lens_ptr + sequence)
    tiles = _tiles_per_split(context_len, num_splits, TILE)
    splits, columns = tl.arange(0, SPLITS), tl.arange(0, HEAD_DIM)
    used = (splits * tiles * TILE < context_len) | (splits == 0)
    sums = tl.load(sums_ptr + row * num_splits + splits, mask=used, other=float("-inf"))
    weights = tl.exp2(sums - tl.max(sums, axis=0))
    partial_ptrs = partials_ptr + (row * num_splits + splits)[:, None] * HEAD_DIM + columns[None, :]
    partials = tl.load(partial_ptrs, mask=used[:, None], other=0.0)  # [SPLITS, HEAD_DIM]
    output = tl.sum(partials * weights[:, None], axis=0) / tl.sum(weights, axis=0)
    tl.store(output_ptr + row * HEAD_DIM + columns, output)
