"""Where PyTorch computes: the device, the CPU threads, and peak memory."""

import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from util.ahead import available_cores
from util.errors import InputError, warn


def device_of(name: str) -> torch.device:
    """The device for a `--device` value.  `auto` is CUDA, else the CPU: nobody has tried MPS yet, so it must be asked for.

    `cuda` is the GPU that torchrun assigns to this process; it becomes PyTorch's current device.  Raises `InputError` if
    the device does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r} is not a device; expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"--device {name}: PyTorch sees no CUDA device")
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        device = torch.device("cuda", index)
        if index >= torch.cuda.device_count():
            raise InputError(f"--device {device}: PyTorch sees {torch.cuda.device_count()} CUDA device(s)")
        torch.cuda.set_device(device)  # so that `peak_memory` measures this one
        torch.backends.cudnn.allow_tf32 = False  # float32 is to be float32: TF32 moves 0.4 % of the labels
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"--device {name}: PyTorch sees no MPS device")
    return device


def half_of(device: torch.device) -> torch.dtype:
    """The half precision that networks use on a device: bfloat16 on the CPU, float16 elsewhere."""
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def fastest_format(device: torch.device, *, half: bool) -> torch.memory_format:
    """The memory format in which convolutions are fastest: channels last, but contiguous for float32 on GPUs."""
    return torch.channels_last if half or device.type == "cpu" else torch.contiguous_format


def half_precision_chosen(choice: str, device: torch.device) -> bool:
    """Whether to compute in half precision: `on`, `off`, or `auto`, which says yes where the hardware has it."""
    if choice == "on":
        warn_if_emulated(device)
    return has_half(device) if choice == "auto" else choice == "on"


def warn_if_emulated(device: torch.device) -> None:
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities") and not has_half(device):
        warn("this processor computes bfloat16 in float32, which takes several times as long as float32 alone")


def has_half(device: torch.device) -> bool:
    """Whether the hardware has half precision: AVX-512's or AMX's bfloat16 on the CPU, tensor cores on CUDA (compute
    capability 7.0).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0)
    able = getattr(torch.cpu, "get_capabilities", dict)()  # which PyTorch 2.10 does not have: then float32
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def use_threads(count: int | None) -> None:
    """Set the number of PyTorch's CPU threads.

    `None` keeps PyTorch's own choice, limited to the cores that this process may use: a container may have fewer than the
    machine.  `OMP_NUM_THREADS`, if set, is respected.
    """
    if count is None and "OMP_NUM_THREADS" not in os.environ:
        count = min(torch.get_num_threads(), available_cores())
    if count is not None:
        torch.set_num_threads(count)


def processor_name() -> str:
    """The CPU's name as Linux gives it, elsewhere as Python does."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def timed_on() -> dict[str, Any]:
    """What seconds on the CPU go by, for the settings of what measures them."""
    return {"processor": processor_name(), "threads": torch.get_num_threads()}


def available_memory(device: torch.device) -> int | None:
    """The bytes that this process can still take where `device` keeps its tensors; `None` if the system does not say.

    On the CPU: what Linux calls available, limited by the control group; elsewhere all of the machine's memory.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # what glibc keeps can be taken
    found = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))))
    with contextlib.suppress(OSError, ValueError, KeyError):  # as for the cores
        group = Path("/sys/fs/cgroup")
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(statistics["inactive_file"])  # which gives way
        found.append(max(0, int((group / "memory.max").read_text()) - used))
    return min(found, default=None)


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
    """The kind of memory measured (`GPU` or `resident`) and this process's peak so far, in bytes; 0 if unknown."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return "GPU", torch.cuda.max_memory_allocated()
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return "resident", 0
    unit = 1 if sys.platform == "darwin" else 1024
    return "resident", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
