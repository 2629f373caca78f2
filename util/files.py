"""Files: untrusted names, text and JSON, atomic writes, and removal of known files only."""

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

from util.errors import InputError, WriteError, shorten

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LONGEST_NAME = 255  # bytes, on all common file systems
LONGEST_PLAIN = LONGEST_NAME - len("..partial")  # of a name that its temporary names contain
LARGEST_TEXT = 2**28  # bytes
CLUTTER = frozenset({"__MACOSX", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini"})
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}", re.DOTALL)  # of `write_atomically`
_LEFTOVERS: dict[Path, dict[str, list[Path]]] = {}  # by folder and name, as found by the first write into the folder


def path_in(folder: str | Path, *names: object, source: str | Path) -> Path:
    """`folder` joined with `names`, which were read from `source` and are not trusted: a place to write or to remove.

    Raises `InputError` unless each name is plain (`plain_name`), and if the path leads out of `folder` once links are
    followed.
    """
    folder = Path(folder)
    path = folder.joinpath(*(plain_name(name, source=source) for name in names))
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        found = shorten(repr("/".join(map(str, names))))
        raise InputError(f"{source}: expected a plain name, inside {folder}, found {found}")
    return path


def plain_name(name: object, *, source: str | Path) -> str:
    """A name that was read from `source` and is not trusted.  What is only read may lie behind a link, anywhere.

    Raises `InputError` unless it is a string of 1 to 255 bytes, without separators, drives or control characters, and
    neither `.` nor `..`.
    """
    if (problem := _problem_of_name(name)) is not None:
        raise InputError(f"{source}: expected a plain name, {problem}, found {shorten(repr(name))}")
    return str(name)


def is_clutter(name: str) -> bool:
    """Whether a file or folder is not the user's: hidden, or put there by a system that stores or shows files."""
    return name.startswith(".") or name in CLUTTER


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, also linked ones, by name, without clutter."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_clutter(path.name))


def _problem_of_name(name: object) -> str | None:
    """What is required of a name that is not plain (the text that follows "expected a plain name, "); `None` if it is."""
    if not isinstance(name, str):
        return "as text"
    if name in ("", ".", "..") or any(kind(name).name != name for kind in (PurePosixPath, PureWindowsPath)):
        return "without a path"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "without control characters"
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return "in UTF-8"
    return None if length <= LONGEST_NAME else f"of at most {LONGEST_NAME} bytes"


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
    _remove_leftovers(path)
    temporary = path.with_name(f".{within_temporary(path.name)}.{secrets.token_hex(4)}")
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


def within_temporary(name: str) -> str:
    """A name as part of temporary names, which would else be longer than file systems allow."""
    encoded = os.fsencode(name)
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
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, lambda file: file.write(content))
    return path


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files for this one whose processes were killed; a folder is looked through once."""
    folder = path.parent.absolute()
    if folder not in _LEFTOVERS:
        names = [(found[1], name) for name in os.listdir(folder) if (found := _TEMPORARY.fullmatch(name))]
        _LEFTOVERS[folder] = {of: [folder / name for other, name in names if other == of] for of, _ in names}
    for old in _LEFTOVERS[folder].pop(within_temporary(path.name), ()):
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


def refuse_file_above(folder: Path) -> None:
    """Raise `InputError` if the folder cannot exist because it, or one of its parents, is a file."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise InputError(f"{folder}: expected a folder, found a file there or above")


def refuse_existing(
    path: str | Path, *, overwrite: bool, inputs: Iterable[str | Path] = (), mark: bytes | None = None
) -> None:
    """Raise `InputError` if a file to write exists, unless `overwrite`, or it is ours, with `mark` near its beginning.

    It is raised in any case if the file is one of `inputs`.
    """
    path = Path(path)
    if mark is not None and path.is_file():
        with one_line_for(path), open_file(path) as file:
            overwrite = overwrite or mark in file.read(4096)
    if path.exists():
        if same := [source for source in inputs if path.samefile(source)]:
            raise InputError(f"{path}: would replace {same[0]}, which is read; choose another place")
        if not overwrite and not path.is_dir():  # which has its own message when it is written
            raise InputError(f"{path}: already exists; --overwrite replaces it")


def refuse_foreign(folder: Path, names: Collection[str]) -> None:
    """Raise `InputError` unless `folder` is a real folder (not a link) that holds only files with these names.

    Names are relative to it (`frame.png`, `video/frame.png`).  A temporary file that a crash of `write_atomically` left
    behind counts as the file it was to become.  A missing folder is fine.
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
    places = map(PurePosixPath, names)
    temporary = {str(place.with_name(within_temporary(place.name))) for place in places}

    def look(place: str | Path, prefix: str) -> None:
        for entry in os.scandir(place):
            unfinished = _TEMPORARY.fullmatch(entry.name)
            if entry.is_dir(follow_symlinks=False) and prefix + entry.name in folders:
                look(entry.path, f"{prefix}{entry.name}/")
            elif not entry.is_file(follow_symlinks=False) or (
                prefix + entry.name not in names and (not unfinished or prefix + unfinished[1] not in temporary)
            ):
                raise InputError(f"{entry.path}: was not made by this project; nothing was removed, move it first")

    look(folder, "")


def remove_folder(folder: Path, names: Collection[str]) -> None:
    """Remove a folder that holds only files with these names; a missing folder is fine.

    Raises `InputError`, and removes nothing, if it holds anything else or is a link (`refuse_foreign`).
    """
    refuse_foreign(folder, names)
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            Path(place, name).unlink()
        Path(place).rmdir()


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files if they exist.  Of a link, the link itself is removed, not its target."""
    for path in paths:
        path.unlink(missing_ok=True)


def digest(paths: Iterable[str | Path], *, salt: str = "") -> str:
    """The hexadecimal SHA-256 of `salt` followed by each file's size and content.

    Raises `InputError` if a file cannot be read.
    """
    result = hashlib.sha256(salt.encode())
    for path in paths:
        try:
            with open_file(path) as file:
                result.update(os.fstat(file.fileno()).st_size.to_bytes(8, "big"))
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
