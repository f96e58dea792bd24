from hypothesis import given
from hypothesis import strategies as st

from model_runtime.block_pool import BlockPool


def test_blocks_for_rounds_up() -> None:
    pool = BlockPool(num_blocks=4, block_size=16)
    assert [pool.blocks_for(n) for n in (0, 1, 16, 17)] == [0, 1, 1, 2]


def test_grow_takes_all_or_nothing() -> None:
    pool = BlockPool(num_blocks=2, block_size=4)
    table: list[int] = []
    assert not pool.grow(table, 9)
    assert table == [] and pool.num_free == 2
    assert pool.grow(table, 8)
    assert len(table) == 2 and pool.num_free == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=60))
def test_every_block_is_free_or_held_by_one(actions: list[tuple[int, int]]) -> None:
    """Random growth and release of four tables keeps the law."""
    pool = BlockPool(num_blocks=12, block_size=4)
    tables: list[list[int]] = [[], [], [], []]
    for which, num_tokens in actions:
        if num_tokens == 0:
            pool.release(tables[which])
        else:
            pool.grow(tables[which], num_tokens)
        pool.check(tables)
    assert pool.num_free + sum(map(len, tables)) == pool.num_blocks
