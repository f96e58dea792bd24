"""Owns the ids of KV blocks: who may write where. Knows no tensors and no sequences."""

from collections.abc import Iterable


class BlockPool:
    """Fixed number of block ids, handed out and taken back.

    The law: every id is either free or held by exactly one sequence (`check`).
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        assert num_blocks > 0 and block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))  # pops 0, 1, 2, ...
        self._is_held = [False] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_tokens(self) -> int:
        """Token slots in all."""
        return self.num_blocks * self.block_size

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens fill."""
        return -(-num_tokens // self.block_size)

    def grow(self, block_table: list[int], num_tokens: int) -> bool:
        """Extend `block_table` to hold `num_tokens` tokens. False, and no change, when it can't."""
        missing = self.blocks_for(num_tokens) - len(block_table)
        if missing > self.num_free:
            return False
        for _ in range(missing):
            block = self._free.pop()
            self._is_held[block] = True
            block_table.append(block)
        return True

    def release(self, block_table: list[int]) -> None:
        """Take back all blocks of a table and empty it."""
        for block in reversed(block_table):
            assert self._is_held[block], f"block {block} was freed twice. This is a bug."
            self._is_held[block] = False
            self._free.append(block)
        block_table.clear()

    def check(self, block_tables: Iterable[list[int]]) -> None:
        """Assert that the free ids and the given tables partition all blocks."""
        held = [block for table in block_tables for block in table]
        assert len(held) == len(set(held)), "a block is held by two sequences"
        assert sorted(held + self._free) == list(range(self.num_blocks)), "blocks leaked"
