"""Zips, tars and folders as what they hold; nothing in them can lead out of a folder."""

import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from util.errors import InputError, names_some

BROKEN_ARCHIVE = (OSError, EOFError, RuntimeError, zlib.error, LZMAError, zipfile.BadZipFile, tarfile.TarError)


class Member(NamedTuple):
    """A file of an archive, good until the next one is asked for."""

    name: str  # parts joined by "/", without "." and ".."
    size: int  # bytes
    position: int  # of the archive's `size`, how much lies before its end
    read: Callable[[], bytes]


class Archive:
    """A zip, a tar (compressed or not), or the folder that one was unpacked to; which one, its content tells.

    Raises `InputError` when it is none of these.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self._members, self.size = _folder_members, sum(size for *_, size in _walk(self.path))
        elif not self.path.is_file():
            raise InputError(f"{path}: no such archive")
        elif tarfile.is_tarfile(self.path):
            self._members, self.size = _tar_members, self.path.stat().st_size
        elif zipfile.is_zipfile(self.path):
            self._members, self.size = _zip_members, self.path.stat().st_size
        else:
            raise InputError(f"{path}: expected a whole zip or tar, or a folder (was the download cut off?)")

    def members(self) -> Iterator[Member]:
        """The files in the archive's order, without hidden ones; a folder's begin with its own name.

        Raises `InputError` when the archive is damaged, or holds a name that leads out of a folder or a link.
        """
        try:
            for member in self._members(self.path):
                name = member.name.replace("\\", "/")  # written so by some zip programs on Windows
                parts = PurePosixPath(name).parts
                if ".." in parts or re.match("/|[A-Za-z]:", name):
                    raise InputError(f"{self.path}: refused, its member {member.name!r} leads out of the folder")
                if re.search(r"[\x00-\x1f\x7f]", name):
                    raise InputError(f"{self.path}: refused, its member {member.name!r} has a control character in its name")
                if not any(part.startswith(".") or part == "__MACOSX" for part in parts):
                    yield member._replace(name="/".join(parts))
        except BROKEN_ARCHIVE as error:
            raise InputError(f"{self.path}: cannot read this archive ({error})") from error

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The bytes of each file, by name."""
        return {member.name: member.size for member in self.members()}

    def read_text(self, name: str) -> str:
        """A file's content; raises `InputError` when it cannot be read."""
        data = next(read_member(self, member) for member in self.members() if member.name == name)
        return data.decode("utf-8", "replace")

    def content(self) -> str:
        """What lies in it at the top, in a few words, for messages."""
        return names_some({"/".join(name.split("/")[:2]) for name in self.sizes}) or "no file"


def read_member(archive: Archive, member: Member) -> bytes:
    try:
        return member.read()
    except BROKEN_ARCHIVE as error:
        raise InputError(f"{archive.path}: {member.name}: cannot read ({error})") from error


def _zip_members(path: Path) -> Iterator[Member]:
    position = 0
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            position += info.compress_size
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _link(path, info.filename)
            if not info.is_dir():
                yield Member(info.filename, info.file_size, position, lambda info=info: file.read(info))


def _tar_members(path: Path) -> Iterator[Member]:
    with open(path, "rb") as raw, tarfile.open(fileobj=raw) as file:
        while info := file.next():
            file.members.clear()  # type: ignore[attr-defined]  # or it remembers them all, which are millions
            if not info.isfile() and not info.isdir():
                raise _link(path, info.name)
            if info.isfile():
                yield Member(info.name, info.size, raw.tell(), partial(_tar_content, file, info))
        if file.fileobj is raw:  # tarfile takes a damaged header for the end, which is a block of zeros
            raw.seek(file.offset)
            if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise InputError(f"{path}: ends too early or is damaged (was the download cut off?)")


def _tar_content(file: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    content = file.extractfile(info)
    assert content is not None  # it is a file
    return content.read()


def _folder_members(path: Path) -> Iterator[Member]:
    position = 0
    for name, place, size in _walk(path):
        position += size
        yield Member(name, size, position, place.read_bytes)


def _walk(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Names from the folder's own on, paths and sizes of the files below it; links back to a folder above are left out."""
    folder = folder.resolve()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(place) + "/"
        folders[:] = sorted(name for name in folders if not here.startswith(os.path.realpath(f"{place}/{name}") + "/"))
        for name in sorted(files):
            path = Path(place, name)
            if path.is_symlink() and not path.exists():
                raise InputError(f"{path}: expected a file, found a link to nothing")
            if path.is_file():
                yield path.relative_to(folder.parent).as_posix(), path, path.stat().st_size


def _link(path: Path, name: str) -> InputError:
    return InputError(f"{path}: refused, its member {name!r} is a link or a device, which is in none of these data sets")
