"""How long work takes."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch


class Stopwatch:
    """Seconds that work takes, by name; on CUDA between events."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def time(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work(*arguments)` returns."""
        if self.cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = work(*arguments)
            end.record()
            torch.cuda.synchronize()
            seconds = start.elapsed_time(end) / 1000
        else:
            begin = time.perf_counter()
            result = work(*arguments)
            seconds = time.perf_counter() - begin
        self.seconds[name].append(seconds)
        return result
