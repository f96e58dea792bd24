"""Owns the ids of KV blocks: who holds which, and which still hold a known prefix.

Knows no tensors and no sequences. A block is held (by one or more block tables), cached
(held by nobody, but its contents are known by a hash and can be taken up again) or free.
Cached blocks count as free room: the least recently used one is overwritten first.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable


class BlockPool:
    """A fixed number of block ids with reference counts and a prefix index.

    The law: held + cached + free = all (`check`).
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        assert num_blocks > 0 and block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))  # pops 0, 1, 2, ...
        self._cached: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._num_holders = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._blocks_by_hash: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """Blocks that can be handed out, cached ones included."""
        return len(self._free) + len(self._cached)

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens fill."""
        return -(-num_tokens // self.block_size)

    # ------------------------------------------------------------------ tables

    def adopt(self, block_table: list[int], hashes: list[bytes], num_tokens: int) -> int | None:
        """Fill an empty table for `num_tokens` tokens; the known prefix comes from the cache.

        Returns how many leading blocks were found, or None, and changes nothing, when there
        is not enough room for the others.
        """
        found = self._find(hashes)
        num_missing = self.blocks_for(num_tokens) - len(found)
        num_revived = sum(self._num_holders[block] == 0 for block in found)
        if num_missing > self.num_free - num_revived:
            return None
        for block in found:
            self._hold(block)
        block_table += found
        is_grown = self.grow(block_table, num_tokens)
        assert is_grown, "the room was counted wrongly. This is a bug."
        return len(found)

    def room_after(self, hashes: list[bytes], num_tokens: int) -> int:
        """Free blocks that would remain after `adopt`; negative when it would fail."""
        found = self._find(hashes)
        num_revived = sum(self._num_holders[block] == 0 for block in found)
        return self.num_free - num_revived - (self.blocks_for(num_tokens) - len(found))

    def grow(self, block_table: list[int], num_tokens: int) -> bool:
        """Extend `block_table` to hold `num_tokens` tokens. False, and no change, when it can't."""
        num_missing = self.blocks_for(num_tokens) - len(block_table)
        if num_missing > self.num_free:
            return False
        block_table += [self._take() for _ in range(num_missing)]
        return True

    def release(self, block_table: list[int]) -> None:
        """Give a table's blocks back and empty it; later blocks will be overwritten first."""
        for block in reversed(block_table):
            assert self._num_holders[block] > 0, f"block {block} was freed twice. This is a bug."
            self._num_holders[block] -= 1
            if self._num_holders[block] == 0:
                self._lay_down(block)
        block_table.clear()

    def publish(self, block: int, block_hash: bytes) -> None:
        """The block is full and computed: whoever has the same prefix may share it."""
        if self._hashes[block] is None and block_hash not in self._blocks_by_hash:
            self._hashes[block] = block_hash
            self._blocks_by_hash[block_hash] = block

    def withdraw(self, blocks: list[int]) -> list[int]:
        """Nobody shall find these blocks again. Returns those that only one table holds."""
        own = [block for block in blocks if self._num_holders[block] == 1]
        for block in own:
            if (block_hash := self._hashes[block]) is not None:
                del self._blocks_by_hash[block_hash]
                self._hashes[block] = None
        return own

    def check(self, block_tables: Iterable[list[int]]) -> None:
        """Assert that the given tables are the holders, and that no block is lost."""
        holders = Counter(block for table in block_tables for block in table)
        assert [holders[block] for block in range(self.num_blocks)] == self._num_holders
        parts = [*holders, *self._cached, *self._free]
        assert sorted(parts) == list(range(self.num_blocks)), "blocks leaked or doubled"
        index = {block: h for h, block in self._blocks_by_hash.items()}
        assert index == {b: h for b, h in enumerate(self._hashes) if h is not None}
        assert all(self._hashes[block] is not None for block in self._cached)

    # ------------------------------------------------------------------ single blocks

    def _find(self, hashes: list[bytes]) -> list[int]:
        """The blocks of the longest known prefix."""
        found = []
        for block_hash in hashes:
            block = self._blocks_by_hash.get(block_hash)
            if block is None:
                break
            found.append(block)
        return found

    def _hold(self, block: int) -> None:
        if self._num_holders[block] == 0:
            del self._cached[block]
        self._num_holders[block] += 1

    def _take(self) -> int:
        block = self._free.pop() if self._free else self._evict()
        self._num_holders[block] = 1
        return block

    def _evict(self) -> int:
        block, _ = self._cached.popitem(last=False)
        block_hash = self._hashes[block]
        assert block_hash is not None, "a cached block without a hash. This is a bug."
        del self._blocks_by_hash[block_hash]
        self._hashes[block] = None
        return block

    def _lay_down(self, block: int) -> None:
        if self._hashes[block] is None:
            self._free.append(block)
        else:
            self._cached[block] = None
