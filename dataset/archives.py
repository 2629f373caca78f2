"""Read zips, tars and folders alike; no member can refer to a place outside the target folder.

Links in zips and tars are followed while they stay inside; those in folders lead wherever they lead, as the user made them.
"""

import bz2
import contextlib
import gzip
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from util.errors import InputError, names_some, shorten
from util.files import one_line_for, open_file
from util.guards import is_clutter

BROKEN_ARCHIVE = (  # what reading one may raise; `InputError` is one of these too
    *(OSError, EOFError, RuntimeError, ValueError, OverflowError),
    *(zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile, tarfile.TarError),
)
SUFFIX = re.compile(r"\.(jpe?g|png)\Z", re.IGNORECASE)
LARGEST = 2**28  # bytes of a file in an archive
LONGEST_PADDING = 2**20  # bytes of zeros at the end of a compressed tar
LONGEST_HEADER = 2**15  # bytes that describe a file in a tar; digits take the square of their number (CVE-2024-6232): 2 s
UNPACKERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}  # by the first bytes of a file
MOST_LINKS, LONGEST_TARGET, LONGEST_CHAIN = 1000, 4096, 40  # in an archive; bytes; links one behind another, as in Linux
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
    """A zip, a tar (compressed or not), or a folder with the unpacked files, by its content; raises `InputError` for others.

    Pictures called `.JPG`, `.jpeg` or `.PNG` are listed as `.jpg` and `.png`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self._members, self.size = _folder_members, sum(size for *_, size in _walk(self.path.resolve()))
        elif not self.path.is_file():
            raise InputError(f"{path}: no such archive")
        elif (members := _kind_of(self.path)) is not None:
            self._members, self.size = members, self.path.stat().st_size
        else:
            raise InputError(f"{path}: expected a whole zip or tar, or a folder (was the download cut off?)")

    def members(self) -> Iterator[Member]:
        """The files in archive order, without hidden ones.  For a folder, names begin with the folder's own name.

        What links lead to follows, under the links' names too.  Raises `InputError` if the archive is damaged, holds a
        device, or holds a name or a link that leads out of it or to nothing.  Of a compressed tar, the checksum comes last.
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
        except InputError:
            raise
        except BROKEN_ARCHIVE as error:
            raise InputError(f"{self.path}: cannot read this archive ({shorten(str(error))})") from error

    def _plain_members(self, *, hidden: bool = False) -> Iterator[Member]:
        """Files and links, under checked names, without clutter unless `hidden`."""
        for member in self._members(self.path):
            name = member.name.replace("\\", "/")  # some Windows zip programs write backslashes
            parts = PurePosixPath(name).parts
            if ".." in parts or re.match("/|[A-Za-z]:", name):
                raise InputError(f"{self.path}: refused, its member {shorten(repr(member.name))} leads out of the folder")
            if re.search(r"[\x00-\x1f\x7f]", name):
                what = shorten(repr(member.name))
                raise InputError(f"{self.path}: refused, its member {what} has a control character in its name")
            if hidden or not any(map(is_clutter, parts)):
                link = None if member.link is None else _usual(member.link)
                yield member._replace(name=_usual("/".join(parts)), real=member.real or "/".join(parts), link=link)

    def _inside(self, member: Member) -> str:
        """Where a link leads, as a name in the archive."""
        assert member.link is not None
        target = posixpath.normpath(member.link)
        if target.split("/")[0] in ("", ".", "..") or f"{member.name}/".startswith(f"{target}/"):
            what = f"{shorten(repr(member.name))} is a link that leads out or to itself, {shorten(repr(target))}"
            raise InputError(f"{self.path}: refused, its member {what}")
        return target

    def _behind(self, links: dict[str, str]) -> Iterator[Member]:
        """The files that links lead to, in a second pass; each link by itself, or through one chain of others."""
        if len(links) > MOST_LINKS:
            raise InputError(f"{self.path}: expected at most {MOST_LINKS} links, found {len(links)}; unpack it first")
        leading: dict[str, list[str]] = {}  # links by where they lead in the end
        for name, target in links.items():
            for _ in range(LONGEST_CHAIN):
                if (at := next((place for place in _places(target) if place in links), None)) is None:
                    break
                target = links[at] + target[len(at) :]
            leading.setdefault(target, []).append(name)
        empty = set(links)
        for member in self._plain_members(hidden=True):  # git-annex keeps files where links lead
            for place in _places(member.name) if member.link is None else ():
                for name in leading.get(place, ()):
                    empty.discard(name)
                    yield member._replace(name=name + member.name[len(place) :], real=member.real)
        if empty:
            raise InputError(f"{self.path}: refused, its member {shorten(repr(min(empty)))} is a link to nothing in it")

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of each file in bytes, by name."""
        return {name: size for name, (size, _) in self._listing.items()}

    def real(self, name: str) -> Path:
        """What a file is, whatever name leads to it."""
        return self.path.resolve() / self._listing[name][1]

    @cached_property
    def _listing(self) -> dict[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        for member in self.members():
            if member.name in found:
                raise InputError(f"{self.path}: holds two files called {shorten(repr(member.name))}; which counts?")
            found[member.name] = (member.size, member.real or member.name)
        return found

    def read_text(self, name: str) -> str:
        """The text of a file; raises `InputError` if it cannot be read."""
        data = next(read_member(self, member) for member in self.members() if member.name == name)
        return data.decode("utf-8-sig", "replace")

    def content(self) -> str:
        """Some of the names in the top two levels, for messages."""
        return names_some({"/".join(name.split("/")[:2]) for name in self.sizes}) or "no file"


def _places(name: str) -> list[str]:
    """A name, and the folders that it is in."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _usual(name: str) -> str:
    """A name with the suffix that the data sets' own pictures have."""
    return SUFFIX.sub(lambda match: ".png" if match[0].lower() == ".png" else ".jpg", name)


def read_member(archive: Archive, member: Member) -> bytes:
    """The content of a file; raises `InputError` if it cannot be read, or is too large to be a picture or a list."""
    if member.size > LARGEST:  # a small zip may hold terabytes of zeros
        found = f"{member.size >> 20} MiB"
        raise InputError(f"{archive.path}: {shorten(member.name)}: expected at most {LARGEST >> 20} MiB, found {found}")
    try:
        return member.read()
    except BROKEN_ARCHIVE as error:
        why = shorten(str(error)) or "it is cut off"
        raise InputError(f"{archive.path}: {shorten(member.name)}: cannot read ({why})") from error


def _kind_of(path: Path) -> Callable[[Path], Iterator[Member]] | None:
    """What lists the members of a tar or zip; `None` for other files."""
    try:
        with open_file(path) as raw, contextlib.suppress(*BROKEN_ARCHIVE), contextlib.closing(_Tar(raw)):
            return _tar_members
        return _zip_members if zipfile.is_zipfile(path) else None
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error


def _zip_members(path: Path) -> Iterator[Member]:
    position = 0
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            position += info.compress_size
            if stat.S_ISLNK(info.external_attr >> 16):
                if info.file_size > LONGEST_TARGET:
                    what = f"{shorten(repr(info.filename))} is a link of {info.file_size} bytes"
                    raise InputError(f"{path}: refused, its member {what}")
                target = file.read(info).decode("utf-8", "surrogateescape")
                yield Member(info.filename, 0, position, bytes, posixpath.join(posixpath.dirname(info.filename), target))
            elif not info.is_dir():
                yield Member(info.filename, info.file_size, position, lambda info=info: file.read(info))


class _Tar:
    """A tar, unpacked as it is read.  Unlike `tarfile` alone, it tells an end from damage, and limits what a header may take.

    `tarfile` reads headers through this object, and their size is counted; contents are read past it.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        head = raw.read(8)
        raw.seek(0)
        self.stream = next((opener(raw) for magic, opener in UNPACKERS.items() if head.startswith(magic)), raw)
        if self.stream is not raw and raw.seek(0, os.SEEK_END) > LONGEST_PADDING:
            raw.seek(-LONGEST_PADDING, os.SEEK_END)
            if not any(raw.read(LONGEST_PADDING)):
                raise tarfile.ReadError("it ends in zeros")  # which gzip would skip one by one, be it a TB
        raw.seek(0)
        self.seek, self.tell, self.close = self.stream.seek, self.stream.tell, self.stream.close
        self._left, self._last = LONGEST_HEADER, b""
        file: Any = self  # of a file, tarfile needs three methods
        self._file = tarfile.TarFile(fileobj=file)

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """The members; raises one of `BROKEN_ARCHIVE` if the tar or its checksum shows any damage."""
        while info := self._file.next():
            self._file.members.clear()  # type: ignore[attr-defined]  # else it keeps all members, which may be millions
            yield info
            self._left = LONGEST_HEADER
        if self._last != bytes(tarfile.BLOCKSIZE):  # tarfile takes damage for the end; a true end is a block of zeros
            raise EOFError("it ends too early or is damaged; was the download cut off?")
        if self.stream is not self.raw:
            for _ in range(LARGEST >> 20):
                if not self.stream.read(1 << 20):  # which raises an error unless the checksum is right
                    return
            raise EOFError("it goes on after its end")

    def content(self, info: tarfile.TarInfo) -> bytes:
        self.stream.seek(info.offset_data)
        result = self.stream.read(info.size)
        if len(result) < info.size:
            raise EOFError("it ends too early")
        return result

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise OSError(f"a header of more than {LONGEST_HEADER >> 10} KiB")
        self._last = self.stream.read(size)
        return self._last


def _tar_members(path: Path) -> Iterator[Member]:
    with open_file(path) as raw, contextlib.closing(_Tar(raw)) as file:
        for info in file:
            if not (info.isfile() or info.isdir() or info.issym() or info.islnk()):
                what = f"its member {shorten(repr(info.name))} is a device, not a file, folder or link"
                raise InputError(f"{path}: refused, {what}")
            if info.issparse() or info.size < 0:
                what = "a sparse file; unpack it first" if info.issparse() else f"of {info.size} bytes"
                raise InputError(f"{path}: its member {shorten(repr(info.name))} is {what}")
            if info.issym() or info.islnk():  # which is a second name of an earlier member
                target = posixpath.join(posixpath.dirname(info.name) if info.issym() else "", info.linkname)
                yield Member(info.name, 0, raw.tell(), bytes, target)
            elif info.isfile():
                yield Member(info.name, info.size, raw.tell(), partial(file.content, info))


def _folder_members(path: Path) -> Iterator[Member]:
    position = 0
    for name, place, size in _walk(path.resolve()):
        position += size
        yield Member(name, size, position, place.read_bytes, real=os.path.realpath(place))


def _walk(folder: Path, top: Path | None = None, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Path, int]]:
    """(name, path, size) of each file below a folder; names begin with the name of `top`, by default the folder itself.

    Skips links to a folder that is above, by its path or through links.  Raises `InputError` if a folder cannot be read.
    """
    top, above = top or folder, (*above, os.path.realpath(folder) + "/")
    with one_line_for(folder):
        entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_dir(), entry.name))
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            if not is_clutter(entry.name) and not any(each.startswith(os.path.realpath(path) + "/") for each in above):
                yield from _walk(path, top, above)
        elif entry.is_file():
            yield path.relative_to(top.parent).as_posix(), path, entry.stat().st_size
        elif entry.is_symlink() and not path.exists() and not DOCUMENT.fullmatch(entry.name):
            raise InputError(f"{path}: expected a file, found a dangling link")
