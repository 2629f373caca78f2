"""How sure a result is, from 0 to 1, to show people where to look; it is not a probability of being right."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

EDGE = 3  # pixels on each side of an edge, at the size at which the network works


def edge_margin(probabilities: Tensor) -> float:
    """(N+1, h, w) -> by how much the best label leads the second best, on average near the edges between labels.

    Where there are no edges, it is the margin of the pixel that is least sure.
    """
    if len(probabilities) == 1:
        return 1.0
    best, labels = probabilities.topk(2, dim=0)
    margin, label = (best[0] - best[1]).float(), labels[0][None].float()
    window, around = 2 * EDGE + 1, EDGE
    highest, lowest = F.max_pool2d(label, window, 1, around), -F.max_pool2d(-label, window, 1, around)
    edge = (highest != lowest)[0]
    return float(margin[edge].mean() if edge.any() else margin.min())


def agreement(one: np.ndarray, other: np.ndarray, share: float) -> float:
    """How far two label maps of a frame agree: 1 less the mean of 1 - J over the objects, weighted by how mixed they are.

    `share` is the weight of `other` in the blend, from 0 to 1.  Half and half, a disagreement counts in full; next to a given
    frame, where one of them is all but ignored, hardly.
    """
    objects = [(one == i, other == i) for i in np.union1d(one, other) if i]
    scores = [np.count_nonzero(a & b) / np.count_nonzero(a | b) for a, b in objects]
    return 1 - 2 * min(share, 1 - share) * (1 - float(np.mean(scores))) if scores else 1.0
