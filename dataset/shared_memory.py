"""Worker processes hand samples over in shared memory: how much they need, and what is said if it is short."""

import errno
import os
import re
import sys
from pathlib import Path

from util.errors import InputError

PLACE = Path("/dev/shm")
PREFETCH = 2  # batches that each worker prepares ahead
ADVICE = "pass --num_workers 0, or give a container more (docker run --shm-size 1g)"
ADVICE_FILES = "pass fewer --num_workers, 0 for none, or raise it"
FILES_OF_WORKER, SPARE_FILES = 8, 16
SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM, errno.EAGAIN)
LOST = re.compile(
    "exited unexpectedly|killed by signal|shared memory|No space left|items of ancdata|Too many open files|File too large"
)


def refuse_if_short(batch: int, *, workers: int, held: int) -> None:
    """Raise `InputError` if the batches that are under way do not fit into what is free.

    batch: bytes of one
    held:  number of batches in the hands of the training
    """
    if not workers or sys.platform != "linux":
        return
    if not os.access(PLACE, os.W_OK):
        raise InputError(f"{PLACE}: worker processes need it, and cannot write there; pass --num_workers 0")
    there = os.statvfs(PLACE)
    free, each = there.f_bavail * there.f_frsize, PREFETCH * batch
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = ranks * (workers * each + held * batch)
    if needed > free:
        fitting = max(0, (free // ranks - held * batch) // each)
        fewer = f"--num_workers {fitting} fits; " if fitting else ""
        raise InputError(f"{PLACE}: {workers} worker processes need {_mib(needed)}, {_mib(free)} are free; {fewer}{ADVICE}")


def refuse_if_few_files(tensors: int, *, workers: int, held: int) -> None:
    """Raise `InputError` if this process may not open as many files as tensors are under way (`tensors` of a batch), of which
    each is one; else it would wait for ever.
    """
    if not workers or sys.platform != "linux":
        return
    import resource  # which Windows lacks

    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(os.listdir("/proc/self/fd")) + tensors * (workers * PREFETCH + held) + FILES_OF_WORKER * workers + SPARE_FILES
    if needed > allowed and (most == resource.RLIM_INFINITY or needed <= most):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
    elif needed > allowed:
        raise InputError(
            f"ulimit -n: {workers} worker processes need {needed} open files, {allowed} are allowed; {ADVICE_FILES}"
        )


def is_of_memory(error: Exception) -> bool:
    """Whether an error of the loader means that a worker is lost or found no room."""
    return LOST.search(str(error)) is not None or (isinstance(error, OSError) and error.errno in SHORT)


def lost_worker(error: Exception) -> InputError:
    """What is to be said of such an error."""
    line = next((line for line in str(error).splitlines() if LOST.search(line)), str(error)).strip()
    return InputError(f"a worker process was lost, for lack of memory, of room in {PLACE} or of open files; {ADVICE} ({line})")


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
