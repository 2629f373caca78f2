"""Figures 2 and 3: which point is most similar in two dimensions, and how three points share the softmax.

python -m scripts.experiments.regions --output out/regions

The points lie in the first quadrant, as in the paper: three clusters, one of them large in one dimension, and an outlier.
Similarities are the project's own, scaled for the softmax as in the network.
"""

import sys

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from evaluation.tables import report
from model.similarity import affinity, similarity
from scripts.experiments.common import experiment_parser
from util.errors import one_line_errors

NAMES = {"dot": "dot product", "l2": "L2", "cosine": "cosine"}
SIDE = 10.0  # of the square that is drawn
PIXELS = 400
THREE = ((2.0, 2.5), (4.0, 7.5), (8.0, 4.0))  # of Figure 3


def parser():
    return experiment_parser("regions", __doc__, data=False)


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    points = clusters()
    owners = {kind: owners_of(points, kind) for kind in NAMES}
    rows = [{"similarity": NAMES[kind], **shares(owner, len(points))} for kind, owner in owners.items()]
    report(arguments.output, "figure2", "Figure 2: regions of the most similar point", rows, draw_regions(points, owners))

    three = torch.tensor(THREE)
    weights = {kind: weights_of(three, kind) for kind in NAMES}
    rows = [
        {"similarity": NAMES[kind], **{f"most of point {i}, %": 100 * float(share.max()) for i, share in enumerate(weight, 1)}}
        for kind, weight in weights.items()
    ]
    report(arguments.output, "figure3", "Figure 3: softmax contributions of three points", rows, draw_weights(three, weights))


def clusters() -> Tensor:
    """(P, 2): clusters in the middle, above and to the right, and an outlier far from the origin."""
    rng = np.random.default_rng(0)
    centres = (((3.0, 3.2), 0.9, 9), ((2.0, 8.4), 0.45, 6), ((7.6, 2.2), 0.6, 6))
    parts = [rng.normal(centre, spread, (count, 2)) for centre, spread, count in centres]
    return torch.tensor(np.concatenate([*parts, [(6.6, 6.7)]]).clip(0.3, SIDE - 0.3), dtype=torch.float32)


def grid() -> Tensor:
    """The query of each pixel, (PIXELS * PIXELS, 2), from the lower left corner on."""
    line = (torch.arange(PIXELS) + 0.5) * SIDE / PIXELS
    return torch.cartesian_prod(line, line).flip(1)  # rows are y


def owners_of(points: Tensor, kind: str) -> Tensor:
    """The most similar point of each pixel, (PIXELS, PIXELS)."""
    return similarity(points[None], grid()[None], kind)[0].argmax(dim=1).view(PIXELS, PIXELS)


def weights_of(points: Tensor, kind: str) -> Tensor:
    """The softmax over points at each pixel, (P, PIXELS, PIXELS)."""
    return affinity(similarity(points[None], grid()[None], kind)[0]).T.reshape(len(points), PIXELS, PIXELS)


def shares(owner: Tensor, points: int) -> dict[str, float | int]:
    area = torch.bincount(owner.flatten(), minlength=points) / owner.numel()
    return {"points": points, "ever most similar": int((area > 0).sum()), "largest region, %": 100 * float(area.max())}


def draw_regions(points: Tensor, owners: dict[str, Tensor]) -> Figure:
    """A triangle for each point that is most similar somewhere, a cross for the others."""
    figure = Figure(figsize=(4 * len(owners), 4.3), layout="constrained")
    for axes, (kind, owner) in zip(figure.subplots(1, len(owners)), owners.items(), strict=True):
        shade = torch.randperm(len(points), generator=torch.Generator().manual_seed(3))[owner]
        axes.imshow(shade.numpy(), origin="lower", extent=(0, SIDE, 0, SIDE), cmap="tab20", alpha=0.6)
        edges = (owner[1:, 1:] != owner[:-1, 1:]) | (owner[1:, 1:] != owner[1:, :-1])
        y, x = (SIDE * (place + 1) / PIXELS for place in edges.nonzero(as_tuple=True))
        axes.plot(x.numpy(), y.numpy(), ",", color="0.2")
        wins = torch.zeros(len(points), dtype=torch.bool)
        wins[owner.unique()] = True
        for chosen, marker, label in ((wins, "^", "most similar somewhere"), (~wins, "x", "never most similar")):
            if chosen.any():
                axes.plot(*points[chosen].T.numpy(), marker, color="black", markersize=7, label=label)
        axes.set(title=NAMES[kind], xlim=(0, SIDE), ylim=(0, SIDE))
        axes.legend(loc="upper center", fontsize=8)
    return figure


def draw_weights(points: Tensor, weights: dict[str, Tensor]) -> Figure:
    """Darker is more; lines where a point has 10, 50 and 90 %."""
    figure = Figure(figsize=(3 * len(points), 3.1 * len(weights)), layout="constrained")
    for row, (kind, weight) in zip(figure.subplots(len(weights), len(points)), weights.items(), strict=True):
        for i, (axes, share) in enumerate(zip(row, weight, strict=True)):
            place = {"origin": "lower", "extent": (0, SIDE, 0, SIDE)}
            axes.imshow(share.numpy(), cmap="Greys", vmin=0, vmax=1.2, **place)
            lines = axes.contour(
                share.numpy(), levels=[0.1, 0.5, 0.9], colors="black", linewidths=0.8, linestyles=[":", "-", "--"], **place
            )
            axes.clabel(lines, fmt=lambda level: f"{100 * level:.0f} %", fontsize=7)
            axes.plot(*points.T.numpy(), "o", markerfacecolor="white", markeredgecolor="black")
            axes.plot(*points[i].numpy(), "*", markersize=14, markerfacecolor="white", markeredgecolor="black")
            axes.set(title=f"{NAMES[kind]}, point {i + 1}", xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    sys.exit(main())
