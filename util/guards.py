"""What keeps other files safe: names that are not trusted, and what is never replaced or removed."""

import os
import re
import stat
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from util.errors import InputError, shorten
from util.files import LONGEST_NAME, TEMPORARY, one_line_for, open_file, within_temporary

SYSTEMS = {"lost+found", "#recycle", "$RECYCLE.BIN", "System Volume Information"}  # folders
CLUTTER = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", *SYSTEMS})


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
    if name in ("", ".", "..") or re.search(r"[/\\]|^[A-Za-z]:", name):
        return "without a path"
    if re.search(r"[\x00-\x1f\x7f]", name):
        return "without control characters"
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return "in UTF-8"
    return None if length <= LONGEST_NAME else f"of at most {LONGEST_NAME} bytes"


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
            unfinished = TEMPORARY.fullmatch(entry.name)
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
