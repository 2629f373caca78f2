"""Where the memory's keys and values lie: rows in slabs, so that memory grows and shrinks and nothing is copied."""

from torch import Tensor

SLAB = 4  # frames: room that may lie idle, against stores to look into


class Slab:
    """Slots for some frames, whose rows lie one behind the other: memory grows by slabs, and nothing is copied."""

    def __init__(self, start: int) -> None:
        self.start = start  # its first cell
        self.keys: Tensor | None = None  # (SLAB * hw, Ck or Ck+1) float32, embedded
        # for each group of objects (SLAB * hw + 1, N * Cv); the last row stands for none and is not read
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
