"""Where PyTorch computes: the device, the threads of the CPU, and the memory that was needed."""

import contextlib
import math
import os
import resource
import sys
from pathlib import Path

import torch
from torch import Tensor

from util.errors import InputError


def device_of(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU; `cuda` is the GPU that torchrun means for this process, which PyTorch then
    takes as its current one.  Raises `InputError` for what is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r} is no device; expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"--device {name}: PyTorch sees no CUDA device")
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        device = torch.device("cuda", index)
        if index >= torch.cuda.device_count():
            raise InputError(f"--device {device}: PyTorch sees {torch.cuda.device_count()} CUDA device(s)")
        torch.cuda.set_device(device)  # whose memory is then the one that is measured
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"--device {name}: PyTorch sees no MPS device")
    return device


def use_threads(count: int | None) -> None:
    """Set the number of PyTorch's threads on the CPU.

    `None` keeps PyTorch's own choice, but takes no more threads than this process has cores: a container may have fewer
    than the machine.  `OMP_NUM_THREADS`, if set, is respected.
    """
    if count is None and "OMP_NUM_THREADS" not in os.environ:
        count = min(torch.get_num_threads(), available_cores())
    if count is not None:
        torch.set_num_threads(count)


def available_cores() -> int:
    """The cores that this process may use: those it is bound to, and no more than its control group's share of time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no Linux, no control group, or no limit ("max")
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor.to(device)`; what goes from the CPU to CUDA does not wait for the work that the GPU still has to do.

    It goes through pinned memory of its own, so that `tensor` may be overwritten at once.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return torch.empty_like(tensor, pin_memory=True).copy_(tensor).to(device, non_blocking=True)


class Download:
    """A tensor on its way to the CPU.  On CUDA the copy starts at once, behind the work that made the tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self._event = None
        if tensor.is_cuda:
            self._copy = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
            self._event = torch.cuda.current_stream(tensor.device).record_event()
        else:
            self._copy = tensor.clone()

    def get(self) -> Tensor:
        """The copy.  Waits until it is there, but not for work that the GPU was given later."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy


def peak_memory() -> tuple[str, int]:
    """What was measured (`GPU` or `resident`) and its peak in bytes so far in this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return "GPU", torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return "resident", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
