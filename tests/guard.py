"""A guard against tests that write, rename or remove files outside the allowed folders.

It uses Python's audit events, which cover every module but not what C libraries do on their own (`robustness/sandbox.sh` is
for that).
"""

import os
import sys
from pathlib import Path

_CHANGING = {
    "os.remove",
    "os.rmdir",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.mkdir",
    "shutil.rmtree",
    "shutil.move",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CACHES = ("__pycache__", ".pytest_cache", ".cache", "torchinductor_root", ".hypothesis")


class EscapedError(BaseException):
    """A call outside; not an `Exception`, so that no handler takes it for a full disk."""


class Guard:
    """From `switch` on, calls that change anything outside `allowed` raise `EscapedError` and are listed in `escaped`."""

    def __init__(self) -> None:
        self.allowed: list[Path] = []
        self.escaped: list[str] = []
        sys.addaudithook(self._look)  # it cannot be removed again

    def _look(self, event: str, arguments: tuple) -> None:
        if not self.allowed:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                self._check(event, path, None)
        elif event in _CHANGING and not (event == "os.mkdir" and os.path.isdir(arguments[0])):
            folder = next((a for a in arguments[1:] if isinstance(a, int) and a >= 0), None) if event != "os.mkdir" else None
            both, second = event in ("os.rename", "shutil.move"), event in ("os.link", "os.symlink")
            for path in arguments[:2] if both else arguments[1:2] if second else arguments[:1]:
                self._check(event, path, folder)

    def _check(self, event: str, path: object, folder: int | None) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # an open file
        path = os.path.abspath(os.path.join(os.readlink(f"/proc/self/fd/{folder}") if folder else "", os.fsdecode(path)))
        # the entry itself is changed, not what it leads to, but its folder's links are followed
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if path.startswith("/dev/") or any(part in _CACHES for part in path.split("/")):
            return
        if not any(Path(path).is_relative_to(place) for place in self.allowed):
            self.escaped.append(f"{event}: {path}")
            raise EscapedError(self.escaped[-1])


GUARD = Guard()
