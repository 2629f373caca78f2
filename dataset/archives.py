"""Read zips, tars and folders alike; no member can refer to a place outside the target folder.

Links in zips and tars are followed while they stay inside; those in folders lead wherever they lead, as the user made them.
"""

import os
import posixpath
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

from util.errors import InputError, names_some, shorten
from util.files import is_clutter

BROKEN_ARCHIVE = (OSError, EOFError, RuntimeError, zlib.error, LZMAError, zipfile.BadZipFile, tarfile.TarError)
SUFFIX = re.compile(r"\.(jpe?g|png)\Z", re.IGNORECASE)
LARGEST = 2**28  # bytes of a file in an archive
MOST_LINKS, LONGEST_TARGET = 1000, 4096  # in an archive; bytes
DOCUMENT = re.compile(r"(readme|licen[cs]e|copying)\b.*", re.IGNORECASE)  # nobody needs it as data, so it may lead anywhere


class Member(NamedTuple):
    """A file in an archive; `read` works until the next member is requested."""

    name: str  # parts joined by "/", without "." and ".."
    size: int  # bytes
    position: int  # bytes of the archive's `size` up to the member's end
    read: Callable[[], bytes]
    link: str | None = None  # where it leads, from the archive's root; `None` for a file
    real: str = ""  # the file itself, the same for all of its names; empty for `name`


class Archive:
    """A zip, a tar (compressed or not), or a folder with the unpacked files.  The type is detected from the content.

    Pictures called `.JPG`, `.jpeg` or `.PNG` are listed as `.jpg` and `.png`.

    Raises `InputError` if it is none of these.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self._members, self.size = _folder_members, sum(size for *_, size in _walk(self.path))
        elif not self.path.is_file():
            raise InputError(f"{path}: no such archive")
        elif (members := _kind_of(self.path)) is not None:
            self._members, self.size = members, self.path.stat().st_size
        else:
            raise InputError(f"{path}: expected a whole zip or tar, or a folder (was the download cut off?)")

    def members(self) -> Iterator[Member]:
        """The files in archive order, without hidden ones.  For a folder, names begin with the folder's own name.

        What links lead to follows, under the links' names too.  Raises `InputError` if the archive is damaged, holds a
        device, or holds a name or a link that leads out of it or to nothing.
        """
        links: dict[str, str] = {}
        try:
            for member in self._plain_members():
                if member.link is None:
                    yield member
                elif not DOCUMENT.fullmatch(PurePosixPath(member.name).name):
                    links[member.name] = self._inside(member)
            if links:
                yield from self._behind(links)
        except BROKEN_ARCHIVE as error:
            raise InputError(f"{self.path}: cannot read this archive ({error})") from error

    def _plain_members(self) -> Iterator[Member]:
        """Files and links, under checked names, without clutter."""
        for member in self._members(self.path):
            name = member.name.replace("\\", "/")  # some Windows zip programs write backslashes
            parts = PurePosixPath(name).parts
            if ".." in parts or re.match("/|[A-Za-z]:", name):
                raise InputError(f"{self.path}: refused, its member {member.name!r} leads out of the folder")
            if re.search(r"[\x00-\x1f\x7f]", name):
                raise InputError(f"{self.path}: refused, its member {member.name!r} has a control character in its name")
            if not any(map(is_clutter, parts)):
                link = None if member.link is None else _usual(member.link)
                yield member._replace(name=_usual("/".join(parts)), real=member.real or "/".join(parts), link=link)

    def _inside(self, member: Member) -> str:
        """Where a link leads, as a name in the archive."""
        assert member.link is not None
        target = posixpath.normpath(member.link)
        if target.split("/")[0] in ("", ".", "..") or f"{member.name}/".startswith(f"{target}/"):
            raise InputError(
                f"{self.path}: refused, its member {member.name!r} is a link that leads out or to itself, {shorten(target)!r}"
            )
        return target

    def _behind(self, links: dict[str, str]) -> Iterator[Member]:
        """The files that links lead to, in a second pass; each link by itself, or through one chain of others."""
        if len(links) > MOST_LINKS:
            raise InputError(f"{self.path}: expected at most {MOST_LINKS} links, found {len(links)}; unpack it first")
        for name, target in links.items():
            for _ in range(len(links)):
                at = next((link for link in links if f"{target}/".startswith(f"{link}/")), None)
                target = target if at is None else links[at] + target[len(at) :]
            links[name] = target
        empty = set(links)
        for member in self._plain_members():
            for name, target in links.items():
                if member.link is None and f"{member.name}/".startswith(f"{target}/"):
                    empty.discard(name)
                    yield member._replace(name=name + member.name[len(target) :], real=member.real)
        if empty:
            raise InputError(f"{self.path}: refused, its member {min(empty)!r} is a link to nothing in it")

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of each file in bytes, by name."""
        return {name: size for name, (size, _) in self._listing.items()}

    def real(self, name: str) -> Path:
        """What a file is, whatever name leads to it."""
        return self.path.resolve() / self._listing[name][1]

    @cached_property
    def _listing(self) -> dict[str, tuple[int, str]]:
        return {member.name: (member.size, member.real or member.name) for member in self.members()}

    def read_text(self, name: str) -> str:
        """The text of a file; raises `InputError` if it cannot be read."""
        data = next(read_member(self, member) for member in self.members() if member.name == name)
        return data.decode("utf-8", "replace")

    def content(self) -> str:
        """Some of the names in the top two levels, for messages."""
        return names_some({"/".join(name.split("/")[:2]) for name in self.sizes}) or "no file"


def _usual(name: str) -> str:
    """A name with the suffix that the data sets' own pictures have."""
    return SUFFIX.sub(lambda match: ".png" if match[0].lower() == ".png" else ".jpg", name)


def read_member(archive: Archive, member: Member) -> bytes:
    """The content of a file; raises `InputError` if it cannot be read, or is too large to be a picture or a list."""
    if member.size > LARGEST:  # a small zip may hold terabytes of zeros
        found = f"{member.size >> 20} MiB"
        raise InputError(f"{archive.path}: {member.name}: expected at most {LARGEST >> 20} MiB, found {found}")
    try:
        return member.read()
    except BROKEN_ARCHIVE as error:
        raise InputError(f"{archive.path}: {member.name}: cannot read ({error})") from error


def _kind_of(path: Path) -> Callable[[Path], Iterator[Member]] | None:
    """What lists the members of a tar or zip; `None` for other files."""
    try:
        return _tar_members if tarfile.is_tarfile(path) else _zip_members if zipfile.is_zipfile(path) else None
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error


def _zip_members(path: Path) -> Iterator[Member]:
    position = 0
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            position += info.compress_size
            if stat.S_ISLNK(info.external_attr >> 16):
                if info.file_size > LONGEST_TARGET:
                    raise InputError(f"{path}: refused, its member {info.filename!r} is a link of {info.file_size} bytes")
                target = file.read(info).decode("utf-8", "surrogateescape")
                yield Member(info.filename, 0, position, bytes, posixpath.join(posixpath.dirname(info.filename), target))
            elif not info.is_dir():
                yield Member(info.filename, info.file_size, position, lambda info=info: file.read(info))


def _tar_members(path: Path) -> Iterator[Member]:
    with open(path, "rb") as raw, tarfile.open(fileobj=raw) as file:
        while info := file.next():
            file.members.clear()  # type: ignore[attr-defined]  # else it keeps all members, which may be millions
            if not (info.isfile() or info.isdir() or info.issym() or info.islnk()):
                raise _device(path, info.name)
            if info.issym():
                target = posixpath.join(posixpath.dirname(info.name), info.linkname)
                yield Member(info.name, 0, raw.tell(), bytes, target)
            elif info.islnk():  # a second name of an earlier member
                yield Member(info.name, 0, raw.tell(), bytes, info.linkname)
            elif info.isfile():
                yield Member(info.name, info.size, raw.tell(), partial(_tar_content, file, info))
        if file.fileobj is raw:  # tarfile takes a damaged header for the end; a true end is a block of zeros
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
        yield Member(name, size, position, place.read_bytes, real=os.path.realpath(place))


def _walk(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """(name, path, size) of each file below a folder; names begin with the folder's own.  Skips links to a parent folder."""
    folder = folder.resolve()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(place) + "/"
        folders[:] = sorted(
            name for name in folders if not is_clutter(name) and not here.startswith(os.path.realpath(f"{place}/{name}") + "/")
        )
        for name in sorted(files):
            path = Path(place, name)
            if path.is_symlink() and not path.exists() and not DOCUMENT.fullmatch(name):
                raise InputError(f"{path}: expected a file, found a dangling link")
            if path.is_file():
                yield path.relative_to(folder.parent).as_posix(), path, path.stat().st_size


def _device(path: Path, name: str) -> InputError:
    return InputError(f"{path}: refused, its member {name!r} is a device, not a file, folder or link")
