"""Storage for the memory's keys and values: rows in slabs, so that adding and dropping frames copies nothing."""

from torch import Tensor

SLAB = 4  # frames per slab: fewer waste less space, more mean fewer stores to search


class Slab:
    """Space for `SLAB` frames, whose rows are contiguous."""

    def __init__(self, start: int) -> None:
        self.start = start  # its first cell
        self.keys: Tensor | None = None  # (SLAB * hw, Ck or Ck+1) float32, embedded
        # for each group of objects (SLAB * hw + 1, N * Cv); the last row means "none" and is never read
        self.values: dict[int, Tensor] = {}

    def place(self, cell: int, keys: Tensor, values: list[Tensor]) -> None:
        """Copy a frame's keys (hw, Ck or Ck+1) and each group's values (hw, N * Cv) into a cell."""
        offset, positions = (cell - self.start) * len(keys), len(keys)
        if self.keys is None:
            self.keys = keys.new_empty(SLAB * positions, keys.shape[1])
        self.keys[offset : offset + positions] = keys
        for group, rows in enumerate(values):
            if group not in self.values:
                self.values[group] = rows.new_empty(SLAB * positions + 1, rows.shape[1])
            self.values[group][offset : offset + positions] = rows
