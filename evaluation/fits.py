"""Refuses a video that needs more memory than there is, before the system ends the process in the middle of it."""

from typing import Any

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


def refuse_too_large(
    segmenter: VideoSegmenter | MultiViewSegmenter, size: tuple[int, int], *, objects: int, frames: int, given: int
) -> None:
    """Raise `InputError` with the flag that helps if a video will not fit into the memory that is available now.

    size: (H, W) of its frames; there are masks at `given` of them.  The estimate is rather too low, so what barely fits is
    let through.
    """
    there = available_memory(segmenter.device)
    video: dict[str, Any] = {"objects": objects, "frames": frames, "given": given}
    needed = segmenter.footprint(size, **video).total
    if there is None or needed <= there:
        return
    fitting = (flags for flags, changes in WAYS.items() if segmenter.footprint(size, **(video | changes)).total <= there)
    help_text = next(fitting, "fewer objects or a smaller video")
    what = f"{frames} frames of {size_text(size)} with {objects} object{'s' if objects > 1 else ''}"
    amounts = f"need about {needed / 2**30:.1f} GiB of memory, {there / 2**30:.1f} GiB are available"
    raise InputError(f"{what} {amounts}; {help_text} would fit, --check_memory off tries it all the same")
