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

# The system clears new memory page by page, so glibc keeps some of what is freed instead of giving each large block back.
with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
    _libc = ctypes.CDLL(None)
    _libc.mallopt(-3, 128 << 20)  # M_MMAP_THRESHOLD
    _libc.mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD

_default = sys.excepthook


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while our scripts import, before `util.errors.one_line_errors` handles it, is one line too."""
    if not issubclass(kind, KeyboardInterrupt):
        _default(kind, error, trace)
    elif multiprocessing.parent_process() is None:
        print("\ninterrupted", file=sys.stderr)


_script = getattr(sys.modules["__main__"], "__file__", None)
if _script and os.path.realpath(_script).startswith(os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep):
    sys.excepthook = _told
