"""Files: reading text and JSON, and atomic writes."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from util.errors import InputError, WriteError, shorten

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LONGEST_NAME = 255  # bytes, on all common file systems
LONGEST_PLAIN = LONGEST_NAME - len("..partial")  # of a name that its temporary names contain
LARGEST_TEXT = 2**28  # bytes
TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}", re.DOTALL)  # of `write_atomically`
_LEFTOVERS: dict[Path, dict[str, list[Path]]] = {}  # by folder and name, as found by the first write into the folder


def open_file(path: str | Path) -> BinaryIO:
    """Open a file for reading; raises `OSError` if that is impossible, also for pipes and devices, which may never end."""
    no_wait = getattr(os, "O_NONBLOCK", 0)  # Windows has neither this nor such pipes
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | no_wait))  # noqa: SIM115 (the caller's)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("it is a pipe or a device")
    return file


def has_content(path: Path) -> bool:
    """Whether a path is a file that is not empty, as one may be after a full disk or a crash."""
    return path.is_file() and path.stat().st_size > 0


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 text file, with or without a byte order mark; raises `InputError` if it is not one."""
    try:
        with open_file(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > LARGEST_TEXT:
                raise InputError(f"{path}: expected text of at most {LARGEST_TEXT >> 20} MiB, found {size >> 20} MiB")
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise InputError(f"{path}: expected text in UTF-8, found {found}") from error
    if "\0" in text:
        raise InputError(f"{path}: expected text in UTF-8, found zero bytes")
    return text


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; raises `InputError` if it is not valid, or an object has a key twice."""
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, {error}") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; raises `ValueError` for a repeated key, whose first value would be lost."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"found {shorten(name)!r} twice")
        result[name] = value
    return result


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file through `write`, which gets an open binary file; it appears whole or not at all, even after a crash.

    Raises `WriteError` if the file cannot be written, `InputError` if it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected a file to write, found a folder")
    make_folder(path.parent)
    temporary_part = within_temporary(path.name)
    _remove_leftovers(path.parent, temporary_part)
    temporary = path.with_name(f".{temporary_part}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            _lock(file)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        hidden = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save hides a full disk
        if isinstance(hidden, OSError):
            raise WriteError(f"{path}: cannot write ({hidden.strerror or hidden})") from error
        raise


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove temporary files for this name whose processes were killed; a folder is looked through once."""
    folder = folder.absolute()
    if folder not in _LEFTOVERS:
        names = []
        with contextlib.suppress(OSError):  # a folder that cannot be listed
            names = [(found[1], left) for left in os.listdir(folder) if (found := TEMPORARY.fullmatch(left))]
        _LEFTOVERS[folder] = {of: [folder / left for other, left in names if other == of] for of, _ in names}
    for old in _LEFTOVERS[folder].pop(name, ()):
        with contextlib.suppress(OSError), open_file(old) as file:
            if _lock(file) and not old.is_symlink():
                old.unlink()


def _lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed or the process dies; returns whether no other process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is locked, or the file system has no locks
        return False
    return True


def within_temporary(name: str) -> str:
    """A name as part of temporary names, which would else be longer than file systems allow."""
    encoded = name.encode(errors="surrogatepass")  # also a name that no file can have, from a record
    return name if len(encoded) <= LONGEST_PLAIN else hashlib.sha256(encoded).hexdigest()


def write_new(path: Path, data: bytes) -> None:
    """Write a file that takes the place of what has its name, such as a leftover or a link, through which nothing is written.

    Raises `OSError`.
    """
    path.unlink(missing_ok=True)
    with open(path, "xb") as file:
        file.write(data)


def write_text(path: Path, text: str) -> Path:
    """`write_atomically`, unless the file has this content already, as in a finished folder, which may be read-only."""
    content = text.encode(errors="backslashreplace")
    if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
        write_atomically(path, lambda file: file.write(content))
    return path


def write_json(path: Path, content: Any) -> Path:
    """As `write_text`, with the content as JSON."""
    return write_text(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def one_line_for(path: str | Path) -> Iterator[None]:
    """A context that turns errors of the file system into an `InputError` naming the file, or `path` if it is unknown."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Create the folder and its parents if they are missing; raises `InputError` if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{path}: expected a folder, found a file there or above") from error
    except OSError as error:
        raise WriteError(f"{path}: cannot make this folder ({error.strerror})") from error


def digest(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file; raises `InputError` if it cannot be read."""
    result = hashlib.sha256()
    try:
        with open_file(path) as file:
            while block := file.read(1 << 20):
                result.update(block)
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot read ({error.strerror or error})"
        raise InputError(f"{path}: {what}") from error
    return result.hexdigest()


def stamp(paths: Iterable[str | Path], *, salt: str = "") -> str:
    """The hexadecimal SHA-256 of `salt` and of each file's size and time of modification, which tell, without reading the
    files, whether they have changed.

    Raises `InputError` if a file does not exist.
    """
    result = hashlib.sha256(salt.encode())
    for path in paths:
        with one_line_for(path):
            found = os.stat(path)
        result.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
    return result.hexdigest()
