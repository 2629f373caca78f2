"""Code shared by scripts, networks and data sets.  Nothing here imports from `model` or `dataset`."""

import multiprocessing
import os
import sys
from types import TracebackType

# OpenMP threads spin while they wait.  Next to any other busy process (another job, or our own readers and writers) this
# makes the network several times slower; sleeping threads cost a few percent at most.  OpenMP reads this variable when
# PyTorch is loaded, so scripts and packages import `util` before `torch`.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

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
