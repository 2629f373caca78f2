"""Files: names that come from outside, text, atomic writes, and removal of nothing but what is known."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from util.errors import InputError, shorten

LONGEST_NAME = 255  # bytes, on all common file systems
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}", re.DOTALL)  # of `write_atomically`


def path_in(folder: str | Path, *names: object, source: str | Path) -> Path:
    """The path of a file in `folder`, or of folders in it and then a file, whose names were read from `source`.

    Raises `InputError`, naming both, unless each is a plain name: a text of 1 to 255 bytes, without separators, drives
    and control characters, neither `.` nor `..`; and when the path leads out of `folder` once links are followed.
    """
    folder = Path(folder)
    plain = [name for name in names if isinstance(name, str)]
    problem = next((problem for problem in map(_problem_of_name, names) if problem), None)
    if problem is None:
        try:
            inside = folder.joinpath(*plain).resolve().is_relative_to(folder.resolve())
        except (OSError, RuntimeError):  # a circle of links
            inside = False
        problem = None if inside else f"which does not lead out of {folder}"
    if problem is not None:
        found = "/".join(plain) if len(plain) == len(names) else names[0]
        raise InputError(f"{source}: expected a plain name, {problem}, found {shorten(repr(found))}")
    return folder.joinpath(*plain)


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


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; raises `InputError` when it is none."""
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, {error}") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of two entries of one name the first would be lost."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"found {shorten(name)!r} twice")
        result[name] = value
    return result


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Give `path` the content that `write` puts into an open binary file, whole or not at all, even across a crash.

    Raises `InputError` when there can be no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected a file to write, found a folder")
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
        hidden = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save hides that the disk is full
        if isinstance(hidden, OSError):
            raise InputError(f"{path}: cannot write ({hidden.strerror or hidden})") from error
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


def refuse_file_above(folder: Path) -> None:
    """Raises `InputError` when there can be no such folder because a file is there, or above."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise InputError(f"{folder}: expected a folder, found a file there or above")


def refuse_foreign(folder: Path, names: Collection[str]) -> None:
    """Raises `InputError` unless `folder` is a real folder that holds nothing but files of these names.

    Names are relative to it (`frame.png`, `video/frame.png`).  What a crash leaves of `write_atomically` counts as the
    file it was to become.  A folder that is not there is fine.
    """
    try:
        mode = folder.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        what = "a link" if stat.S_ISLNK(mode) else "a file"
        raise InputError(f"{folder}: expected a folder made by this project, found {what}; nothing was removed")
    names = frozenset(names)
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}

    def look(place: str | Path, prefix: str) -> None:
        for entry in os.scandir(place):
            unfinished = _TEMPORARY.fullmatch(entry.name)
            if entry.is_dir(follow_symlinks=False) and prefix + entry.name in folders:
                look(entry.path, f"{prefix}{entry.name}/")
            elif not entry.is_file(follow_symlinks=False) or (
                prefix + entry.name not in names and (not unfinished or prefix + unfinished[1] not in names)
            ):
                raise InputError(f"{entry.path}: was not made by this project; nothing was removed, move it first")

    look(folder, "")


def remove_folder(folder: Path, names: Collection[str]) -> None:
    """Remove a folder that holds nothing but files of these names, if it is there.

    Raises `InputError`, and removes nothing, when it holds anything else or is a link (`refuse_foreign`).
    """
    refuse_foreign(folder, names)
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            Path(place, name).unlink()
        Path(place).rmdir()


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files that may be there; links go themselves, not what they lead to."""
    for path in paths:
        path.unlink(missing_ok=True)


def digest(paths: Iterable[str | Path], *, salt: str = "") -> str:
    """The SHA-256, in hexadecimal, of a text and of the files' contents one after another, each with its size before it.

    Raises `InputError` when a file cannot be read.
    """
    result = hashlib.sha256(salt.encode())
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
