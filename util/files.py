"""Files: names that come from outside, text, atomic writes, and removal of nothing but what is known."""

import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from util.errors import InputError

LONGEST_NAME = 255  # bytes, on all common file systems
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}", re.DOTALL)  # of `write_atomically`


def path_in(folder: str | Path, name: object, *, source: str | Path) -> Path:
    """The path of `name` in `folder`, for a name that was read from `source` (a file or a flag).

    Raises `InputError`, naming both, unless it is a plain name: a text of 1 to 255 bytes, without separators, drives
    and control characters, neither `.` nor `..`, whose path still lies below `folder` when links are followed.
    """
    folder = Path(folder)
    problem = _problem_of_name(name)
    if problem is None:
        try:
            inside = (folder / name).resolve().is_relative_to(folder.resolve())
        except (OSError, RuntimeError):  # a circle of links
            inside = False
        if not inside:
            problem = f"which does not lead out of {folder}"
    if problem is not None:
        shown = repr(name)
        shown = shown if len(shown) <= 80 else f"{shown[:60]}... ({len(shown)} characters)"
        raise InputError(f"{source}: expected a plain name, {problem}, found {shown}")
    return folder / name


def _problem_of_name(name: object) -> str | None:
    """What a name would have to be, if it is not plain."""
    if not isinstance(name, str):
        return "which is a text"
    if name in ("", ".", "..") or any(kind(name).name != name for kind in (PurePosixPath, PureWindowsPath)):
        return "without a path"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "without control characters"
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return "which can be written in UTF-8"
    return None if length <= LONGEST_NAME else f"of at most {LONGEST_NAME} bytes"


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; raises `InputError` when it is none."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise InputError(f"{path}: expected text in UTF-8, found {found}") from error
    if "\0" in text:
        raise InputError(f"{path}: expected text in UTF-8, found zero bytes")
    return text


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Give `path` the content that `write` puts into an open binary file, whole or not at all, even across a crash.

    Raises `InputError` when there can be no such file.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"{path}: cannot write ({error.strerror or error})") from error
        raise


@contextlib.contextmanager
def one_line_for(path: str | Path) -> Iterator[None]:
    """A context in which what the file system refuses becomes an `InputError` that names the file, or else `path`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """The folder and those above it, where they are not there; raises `InputError` when there can be none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{path}: expected a folder, found a file there or above") from error
    except OSError as error:
        raise InputError(f"{path}: cannot make this folder ({error.strerror})") from error


def refuse_foreign(folder: Path, names: Collection[str]) -> None:
    """Raises `InputError` unless `folder` is a real folder that holds nothing but files of these names.

    What a crash leaves of `write_atomically` counts as the file it was to become.  A folder that is not there is fine.
    """
    try:
        mode = folder.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        what = "a link" if stat.S_ISLNK(mode) else "a file"
        raise InputError(f"{folder}: expected a folder of results, found {what}; nothing was removed")
    for entry in os.scandir(folder):
        unfinished = _TEMPORARY.fullmatch(entry.name)
        known = entry.name in names or (unfinished is not None and unfinished[1] in names)
        if not known or not entry.is_file(follow_symlinks=False):
            raise InputError(f"{entry.path}: not made by this project; nothing was removed, move it or give another --output")


def remove_folder(folder: Path, names: Collection[str]) -> None:
    """Remove a folder that holds nothing but files of these names, if it is there.

    Raises `InputError`, and removes nothing, when it holds anything else or is a link (`refuse_foreign`).
    """
    refuse_foreign(folder, names)
    if folder.is_dir():
        for entry in list(os.scandir(folder)):
            Path(entry.path).unlink()
        folder.rmdir()


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files that may be there; links go themselves, not what they lead to."""
    for path in paths:
        path.unlink(missing_ok=True)


def digest(paths: Iterable[str | Path]) -> str:
    """The SHA-256, in hexadecimal, of the files' contents one after another, each with its length before it.

    Raises `InputError` when one cannot be read.
    """
    result = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                result.update(os.fstat(file.fileno()).st_size.to_bytes(8, "big"))
                while block := file.read(1 << 20):
                    result.update(block)
        except OSError as error:
            what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot read ({error.strerror})"
            raise InputError(f"{path}: {what}") from error
    return result.hexdigest()
