"""Pictures to tiles, exactly as the server cuts them, and labels for every visual token."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from model_runtime.demo.training.scenes import COLORS, SHAPES, Scene
from model_runtime.tiling import TileGrid, choose_grid

TILE_SIZE = 112
CELLS = 4
"""Visual tokens along a side of a tile."""
TOKENS_PER_TILE = CELLS * CELLS
NO_LABEL = -1
LABEL_KINDS = ("shape", "color", "row", "column")

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def grid_for(width: int, height: int, max_tiles: int) -> TileGrid:
    return choose_grid(
        width,
        height,
        tile_width=TILE_SIZE,
        tile_height=TILE_SIZE,
        min_tiles=1,
        max_tiles=max_tiles,
    )


def cut_tiles(picture: Image.Image, max_tiles: int) -> Pixels:
    """`[num_tiles, 112, 112, 3]`: the cells row by row, then the thumbnail if there are several."""
    grid = grid_for(picture.width, picture.height, max_tiles)
    size = (grid.columns * TILE_SIZE, grid.rows * TILE_SIZE)
    resized = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
    cells = resized.reshape(grid.rows, TILE_SIZE, grid.columns, TILE_SIZE, 3).swapaxes(1, 2)
    tiles = cells.reshape(-1, TILE_SIZE, TILE_SIZE, 3)
    if grid.num_cells == 1:
        return tiles
    thumbnail = picture.resize((TILE_SIZE, TILE_SIZE), Image.Resampling.BICUBIC)
    return np.concatenate([tiles, np.asarray(thumbnail)[None]])


def third(fraction: float) -> int:
    """0, 1 or 2: the third of the picture that a fraction of its side falls into."""
    return 0 if fraction < 0.38 else 2 if fraction > 0.62 else 1


def label_tiles(scene: Scene, max_tiles: int) -> Labels:
    """`[num_tiles, 16, 4]`: what the token under each shape's centre must say (`LABEL_KINDS`).

    Rows and columns are labelled only on the tile that shows the whole picture.
    """
    grid = grid_for(scene.width, scene.height, max_tiles)
    labels = np.full((grid.num_tiles, TOKENS_PER_TILE, len(LABEL_KINDS)), NO_LABEL, np.int64)
    for shape in scene.shapes:
        x, y = (min(max(v, 0.0), 0.9999) for v in (shape.x, shape.y))
        kind, color = SHAPES.index(shape.kind), COLORS.index(shape.color)
        if grid.num_cells > 1:
            column, row = int(x * grid.columns), int(y * grid.rows)
            cell = _token_at(x * grid.columns - column, y * grid.rows - row)
            labels[row * grid.columns + column, cell, :2] = kind, color
        labels[-1, _token_at(x, y)] = kind, color, third(y), third(x)
    return labels


def _token_at(x: float, y: float) -> int:
    """Index of the visual token at fractions of a tile's sides."""
    return int(y * CELLS) * CELLS + int(x * CELLS)
