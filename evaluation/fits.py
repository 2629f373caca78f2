"""Refuses a video that needs more memory than there is, before the system ends the process in the middle of it."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch

from model import VideoSegmenter
from model.views import MultiViewSegmenter
from util.device import available_memory
from util.errors import InputError
from util.image import size_text

BOUNDED = {"max_memory_frames": 20}
WAYS: dict[str, dict[str, Any]] = {  # flags that need less memory: the first that is enough is advised
    "--max_memory_frames 20": BOUNDED,
    "--size 480": {"working_size": 480},
    "--size 480 --max_memory_frames 20": {"working_size": 480, **BOUNDED},
    "--size 240 --max_memory_frames 20": {"working_size": 240, **BOUNDED},
}


class Claims:
    """What jobs of this process that run at once will need, so that each is checked beside the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claimed: dict[object, int] = {}  # bytes, by job
        self._free: int | None = None  # when the first of these jobs began

    def claim(self, job: object, refuse: Iterable[Callable[["Claims"], int]]) -> None:
        """Claim until `drop` the most that one of these returns; each raises `InputError` if it will not fit
        (`refuse_too_large`).
        """
        with self._lock:
            self._claimed[job] = max((each(self) for each in refuse), default=0)

    def drop(self, job: object) -> None:
        with self._lock:
            self._claimed.pop(job, None)

    def left(self, device: torch.device) -> int | None:
        """The bytes that none of the jobs has claimed; `None` if the system does not say."""
        there = available_memory(device)
        if not self._claimed:
            self._free = there
        return None if there is None or self._free is None else min(there, self._free - sum(self._claimed.values()))


def refuse_too_large(
    segmenter: VideoSegmenter | MultiViewSegmenter,
    size: tuple[int, int],
    *,
    objects: int,
    frames: int,
    given: int,
    claims: Claims | None = None,
) -> int:
    """Raise `InputError` with the flag that helps if a video will not fit into the memory that is available now.

    size:   (H, W) of its frames; there are masks at `given` of them
    claims: of other jobs, which are counted too

    The estimate is rather too low, so what barely fits is let through.  Returns it, in bytes.
    """
    there = available_memory(segmenter.device) if claims is None else claims.left(segmenter.device)
    video: dict[str, Any] = {"objects": objects, "frames": frames, "given": given}
    needed = segmenter.footprint(size, **video).total
    if there is None or needed <= there:
        return needed
    fitting = (flags for flags, changes in WAYS.items() if segmenter.footprint(size, **(video | changes)).total <= there)
    help_text = next(fitting, "fewer objects or a smaller video")
    what = f"{frames} frames of {size_text(size)} with {objects} object{'s' if objects > 1 else ''}"
    amounts = f"need about {needed / 2**30:.1f} GiB of memory, {there / 2**30:.1f} GiB are available"
    raise InputError(f"{what} {amounts}; {help_text} would fit, --check_memory off tries it all the same")
