"""Names for the contents of KV blocks: equal names, equal keys and values.

A block's name covers everything that its keys and values depend on: the block before it, its
token ids, and for placeholders which picture lies behind them, at which offset. Different
pictures behind equal placeholder ids never share a block.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from hashlib import blake2b

from model_runtime.protocol import MediaSpan

_DIGEST_BYTES = 16


def extend_block_hashes(
    hashes: list[bytes], token_ids: list[int], spans: list[MediaSpan], block_size: int, salt: bytes
) -> None:
    """Append the names of the full blocks of `token_ids` that `hashes` lacks.

    `salt` separates tenants: under different salts nothing is shared.
    """
    parent = hashes[-1] if hashes else _digest(salt)
    for start in range(len(hashes) * block_size, len(token_ids) - block_size + 1, block_size):
        tokens = array("q", token_ids[start : start + block_size]).tobytes()
        parent = _digest(parent + tokens + _media_key(spans, start, start + block_size))
        hashes.append(parent)


def _media_key(spans: list[MediaSpan], start: int, end: int) -> bytes:
    """Which media the tokens `[start, end)` stand for, and from which of their tokens on."""
    return b"".join(
        span.content_hash + (span.start - start).to_bytes(8, "little", signed=True)
        for span in spans_between(spans, start, end)
    )


def spans_between(spans: list[MediaSpan], start: int, end: int) -> Iterator[MediaSpan]:
    """Those of the sorted `spans` that overlap the tokens `[start, end)`."""
    for i in range(bisect_right(spans, start, key=lambda span: span.end), len(spans)):
        if spans[i].start >= end:
            return
        yield spans[i]


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()
