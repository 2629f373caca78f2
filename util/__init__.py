"""Code shared by scripts, networks and data sets.  Nothing here imports from `model` or `dataset`."""

import contextlib
import ctypes
import multiprocessing
import os
import sys
from types import TracebackType

# What follows is read when PyTorch is loaded, so scripts and packages import `util` before `torch`.
# OpenMP threads spin while they wait.  Next to any other busy process (another job, or our own readers and writers) this
# makes the network several times slower, and without it small frames take a quarter longer.  So they spin for a moment, then
# sleep (GNU's OpenMP; others sleep at once).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")

# The system clears new memory page by page, so glibc keeps some of what is freed instead of giving each large block back.  The
# first GiB of its heap is in huge pages (2 MiB), which some systems give on request only: without them, looking up addresses
# can make a training step half as long again (docs/performance.md).
with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
    _libc = ctypes.CDLL(None)
    _libc.malloc.restype, _libc.malloc.argtypes, _libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    _libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _libc.mallopt(-3, 128 << 20)  # M_MMAP_THRESHOLD
    _libc.mallopt(-1, 1280 << 20)  # M_TRIM_THRESHOLD, more than the GiB
    _libc.mallopt(-4, 0)  # M_MMAP_MAX: from the heap
    if _block := _libc.malloc(1 << 30):  # the system gives memory when it is used
        _page = 2 << 20
        _libc.madvise(-(-_block // _page) * _page, (1 << 30) - _page, 14)  # MADV_HUGEPAGE
        _libc.free(_block)  # to the heap's free end
    _libc.mallopt(-4, 1 << 16)

_default = sys.excepthook


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends our scripts while they import, before `util.errors.one_line_errors` handles it, is one line too: Ctrl-C, and
    libraries that find no memory (`ulimit -v`)."""
    if issubclass(kind, MemoryError) or "failed to map" in str(error):
        print(f"error: not enough memory ({error})", file=sys.stderr)
    elif not issubclass(kind, KeyboardInterrupt):
        _default(kind, error, trace)
    elif multiprocessing.parent_process() is None:
        print("\ninterrupted", file=sys.stderr)


def open_closed_streams() -> None:
    """Let what the caller has closed (`>&-`) lead nowhere; else the next file that is opened would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (to the end), the lowest number that is free


_script = getattr(sys.modules["__main__"], "__file__", None)
if _script and os.path.realpath(_script).startswith(os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep):
    sys.excepthook = _told
    open_closed_streams()
