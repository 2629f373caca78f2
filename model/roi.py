"""Regions of interest: decode objects only where they can be.  Not in the paper, and off by default.

The memory also reads, with the same affinities, which cells of 16 x 16 pixels showed an object (`cells_with`).  Where hardly
any of what the query reads showed it, it is not.  The box around the other cells, with a margin, is decoded as ever;
elsewhere, there is no object.  The query reads in all of the frame, so an object is found again wherever it enters.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from model.modules import KeyFeatures
from util.tensors import STRIDE

LEAST = 0.2  # of what a cell reads must show the object
MARGIN = 3  # cells around these; the decoder sees 5, but what is further away matters little
GRID = 4  # cells, of which regions are multiples: convolutions prepare for each new size
OUTSIDE = -16.0  # the logit where an object is not
SHARED = 0.38  # part of the decoder's operations, for one object, that objects in one region share, in the paper's network

Region = tuple[slice, slice]  # rows and columns of cells
Decode = Callable[[Tensor, KeyFeatures], Tensor]


def cells_with(masks: Tensor) -> Tensor:
    """Probabilities (N, H, W) -> the largest in each cell, (N, 1, H/16, W/16), to be remembered beside the values."""
    return F.max_pool2d(masks[:, None], STRIDE)


def decode_regions(decode: Decode, readout: Tensor, features: KeyFeatures) -> Tensor:
    """Logits (N, H, W) from the readout of values and of `cells_with`, (N, Cv+1, h, w), and the features of one frame."""
    read, shown = readout[:, :-1], readout[:, -1]
    size = (len(shown), *(STRIDE * side for side in shown.shape[1:]))
    logits = torch.full(size, OUTSIDE, dtype=torch.float32, device=shown.device)
    for objects, region in regions_of(shown):
        rows, columns = (slice(STRIDE * side.start, STRIDE * side.stop) for side in region)
        part = decode(_cut(read[objects], region, 1)[None], _features_in(features, region))
        logits[objects, rows, columns] = part[0].float()
    return logits


def regions_of(shown: Tensor) -> list[tuple[list[int], Region]]:
    """Shares (N, h, w) of what each cell reads that show the object -> which objects to decode in which region.

    All together in one, or each in its own, whichever costs less; objects that are nowhere in none.
    """
    there = (shown > LEAST).cpu()
    found = [(i, region) for i, cells in enumerate(there) if (region := _region(cells)) is not None]
    if len(found) < 2:
        return [([i], region) for i, region in found]
    whole = _region(there.any(dim=0))
    assert whole is not None
    apart = sum(_area(region) for _, region in found)
    if apart < _area(whole) * (SHARED + (1 - SHARED) * len(found)):
        return [([i], region) for i, region in found]
    return [([i for i, _ in found], whole)]


def _region(cells: Tensor) -> Region | None:
    """The box around cells (h, w) bool, with its margin; `None` if there are none."""
    if not cells.any():
        return None
    return _side(cells.any(dim=1)), _side(cells.any(dim=0))


def _side(there: Tensor) -> slice:
    length, at = len(there), there.nonzero()
    start, stop = max(0, int(at[0]) - MARGIN), min(length, int(at[-1]) + 1 + MARGIN)
    size = min(length, -(-(stop - start) // GRID) * GRID)
    start = min(start, length - size)
    return slice(start, start + size)


def _area(region: Region) -> int:
    rows, columns = region
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _features_in(features: KeyFeatures, region: Region) -> KeyFeatures:
    finer = {"f8": 2, "f4": 4}
    return KeyFeatures(**{name: _cut(x, region, finer.get(name, 1)) for name, x in features._asdict().items()})


def _cut(x: Tensor, region: Region, per_cell: int) -> Tensor:
    """What lies in a region of features (B, C, H, W) that have `per_cell` rows and columns for each cell."""
    rows, columns = (slice(per_cell * side.start, per_cell * side.stop) for side in region)
    order = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
    return x[:, :, rows, columns].contiguous(memory_format=order)
