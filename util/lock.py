"""Locks, so that no two runs write into one folder."""

import contextlib
import errno
import fcntl
import os
import weakref
from pathlib import Path

from util.errors import InputError, warn
from util.files import make_folder

LOCK = ".stcn.lock"  # an empty file
TRIES = 1000  # each fails only if another run removes the file at that moment


class Lock:
    """The folder is for this process alone, as a context or until `release`; `program` names it in the messages.

    The lock is a file in the folder, made if need be, that the system frees when the process dies, however it dies.  What the
    lock made is removed again, unless something else is in the folder by then.  Under torchrun, rank 0 holds the lock for all.

    Raises `InputError` if another run holds the lock.  Where nothing can be written there is nothing to protect, and a file
    system without locks gets a warning: in both cases the run goes on.
    """

    def __init__(self, folder: str | Path, program: str) -> None:
        self.folder, self._path = Path(folder), Path(folder, LOCK)
        self._made: list[Path]  # folders, the innermost first
        self._file: int | None = None
        if os.environ.get("RANK", "0") != "0":
            return
        for _ in range(TRIES):
            self._made, place = [], self.folder
            while not os.path.lexists(place):
                self._made.append(place)
                place = place.parent
            make_folder(self.folder)
            try:
                file = self._open()
            except FileNotFoundError:  # another run ended and has just removed the folder
                continue
            if file is None:
                return
            if self._is_ours(file, program):
                self._file = file
                _HELD.add(self)
                return
            os.close(file)
        raise InputError(f"{self._path}: cannot make this file, which keeps other runs away")  # in /proc, for example

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others have the folder; a second call does nothing."""
        if self._file is None:
            return
        try:
            with contextlib.suppress(OSError):
                if os.fstat(self._file).st_size == 0:  # while it is locked, so that nobody else has it
                    self._path.unlink()
                for place in self._made:
                    place.rmdir()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, which frees the lock once no process has it open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int | None:
        """The lock file; `None` where nothing can be written."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise InputError(f"{self._path}: expected a lock file ({error.strerror})") from error
        with contextlib.suppress(OSError):  # another user's lock; reading is enough on this machine's own disks
            return os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        return None

    def _is_ours(self, file: int, program: str) -> bool:
        """Lock the file; false if it was removed meanwhile."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise InputError(f"{self.folder}: another run of {program} works in this folder; wait until it ends") from error
        except OSError as error:
            warn(f"{self._path}: cannot be locked ({error.strerror}); let no other run write there")
            return True
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        return False


_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()
# else workers would hold the lock for some seconds after the death of the process that started them
os.register_at_fork(after_in_child=lambda: [lock.close() for lock in _HELD])
