"""The table of training stages: how long each is, and how far apart a sample's frames are (sections 5, F.1 and F.4)."""

from typing import NamedTuple


class Stage(NamedTuple):
    """The paper's settings for one training stage (sections 5, F.1 and F.4)."""

    iterations: int
    steps: tuple[int, ...]  # iterations at which the learning rate drops
    batch: int  # samples per iteration, over all processes
    skips: tuple[tuple[float, int], ...]  # (fraction of the iterations, largest skip in frames from there on)


def _curriculum(last: float) -> tuple[tuple[float, int], ...]:
    return (0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (last, 5)


STAGES = (
    Stage(300_000, (150_000,), 16, ((0.0, 0),)),  # 0: static images; a photograph has no frames to skip
    Stage(500_000, (450_000,), 8, _curriculum(0.8)),  # 1: BL30K
    Stage(300_000, (250_000,), 8, _curriculum(0.9)),  # 2: YouTube-VOS and DAVIS, after BL30K
    Stage(150_000, (125_000,), 8, _curriculum(0.9)),  # 3: YouTube-VOS and DAVIS
)


def max_skip(stage: Stage, progress: float) -> int:
    """The largest distance, in frames, between a sample's frames after this fraction of the iterations."""
    return next(skip for start, skip in reversed(stage.skips) if progress >= start)
