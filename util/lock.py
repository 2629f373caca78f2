"""Locks, so that no two runs write into one folder."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from filelock import FileLock, Timeout

from util.errors import InputError, warn
from util.files import make_folder

LOCK = ".stcn.lock"  # an empty file
TRIES = 1000  # each fails only if another run removes the folder at that moment
READ_ONLY = (errno.EACCES, errno.EROFS, errno.EPERM)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Lock:
    """The folder is for this process alone, as a context or until `release`; `program` names it in the messages.

    The lock is a file in the folder, made if need be, that the system frees when the process dies, however it dies.  What the
    lock made is removed again, unless something else is in the folder by then.  Under torchrun, rank 0 holds the lock for all.

    Raises `InputError` if another run holds the lock.  Where nothing can be written there is nothing to protect, and a file
    system without locks gets a warning: in both cases the run goes on.
    """

    def __init__(self, folder: str | Path, program: str) -> None:
        self.folder, self._path = Path(folder), Path(folder, LOCK)
        self._made: list[Path] = []  # folders, the innermost first
        # its own fallback, a file that stays after a kill, would need a hand to remove it
        self._lock = FileLock(self._path, timeout=0, mode=0o666, thread_local=False, fallback_to_soft=False)
        if os.environ.get("RANK", "0") != "0":
            return
        for _ in range(TRIES):
            self._made, place = [], self.folder
            while not os.path.lexists(place):
                self._made.append(place)
                place = place.parent
            make_folder(self.folder)
            try:
                self._refuse_foreign()
                self._lock.acquire()
                return
            except FileNotFoundError:  # another run ended and has just removed the folder
                continue
            except Timeout as error:
                if not os.path.lexists(self._path):  # it has just been removed, or cannot be made
                    continue
                message = f"{self.folder}: another run of {program} works in this folder; wait until it ends"
                raise InputError(message) from error
            except OSError as error:
                if error.errno in NO_LOCKS:
                    self._path.unlink(missing_ok=True)
                    warn(f"{self._path}: cannot be locked ({error.strerror}); let no other run write there")
                elif error.errno not in READ_ONLY:
                    raise InputError(f"{self._path}: expected a lock file ({error.strerror})") from error
                return
        raise InputError(f"{self._path}: cannot make this file, which keeps other runs away")  # in /proc, for example

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others have the folder; a second call does nothing."""
        if not self._lock.is_locked:
            return
        try:
            with contextlib.suppress(OSError):
                self._path.unlink()  # while it is locked: who waits for it sees that it is gone
                for place in self._made:
                    place.rmdir()
        finally:
            self._lock.release()

    def _refuse_foreign(self) -> None:
        """Raise `InputError` if something that is no lock of ours has its name, which the library would empty."""
        with contextlib.suppress(FileNotFoundError):
            found = self._path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size:
                raise InputError(f"{self._path}: expected a lock file, which is empty, found something else; move it")
