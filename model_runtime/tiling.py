"""How a picture is cut into tiles: pure arithmetic on sizes, no pixels.

A picture is resized to the grid of tiles whose aspect ratio is nearest to its own; when
the grid has more than one tile, a thumbnail of the whole picture follows as the last tile.
The rule is that of transformers' `GotOcr2ImageProcessorPil` (InternVL's image processor).
"""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class TileGrid:
    """A grid of `columns` x `rows` tiles."""

    columns: int
    rows: int

    @property
    def num_cells(self) -> int:
        return self.columns * self.rows

    @property
    def num_tiles(self) -> int:
        """Tiles sent to the model: the cells, and the thumbnail when there are several."""
        return self.num_cells + (1 if self.num_cells > 1 else 0)


@lru_cache(maxsize=64)
def candidate_grids(min_tiles: int, max_tiles: int) -> tuple[TileGrid, ...]:
    """All grids of `min_tiles` to `max_tiles` cells, fewest cells first."""
    sides = range(1, max_tiles + 1)
    grids = [TileGrid(c, r) for c in sides for r in sides if min_tiles <= c * r <= max_tiles]
    return tuple(sorted(grids, key=lambda grid: grid.num_cells))


def choose_grid(
    width: int, height: int, *, tile_width: int, tile_height: int, min_tiles: int, max_tiles: int
) -> TileGrid:
    """The grid nearest to the picture's aspect ratio.

    On a tie the larger grid wins only while the picture's area exceeds half the grid's area.
    """
    if max_tiles <= 1:
        return TileGrid(1, 1)
    best, best_difference = TileGrid(1, 1), float("inf")
    for grid in candidate_grids(min_tiles, max_tiles):
        difference = abs(width / height - grid.columns / grid.rows)
        if difference < best_difference:
            best, best_difference = grid, difference
        elif difference == best_difference and _is_covered(
            width * height, tile_width * tile_height * grid.num_cells
        ):
            best = grid
    return best


def _is_covered(picture_area: int, grid_area: int) -> bool:
    return picture_area > 0.5 * grid_area


def sample_frame_indices(num_available: int, num_wanted: int) -> list[int]:
    """Frame indices at the midpoints of `num_wanted` equal segments.

    Asking for more frames than there are takes every frame. Same indices as transformers'
    `InternVLVideoProcessor.sample_frames` with its default initial shift, in whole numbers.
    """
    if num_wanted >= num_available:
        return list(range(num_available))
    return [(2 * i + 1) * num_available // (2 * num_wanted) for i in range(num_wanted)]
