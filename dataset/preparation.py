"""Turn downloaded archives into the folders that training and evaluation read.

A script maps the names in an archive to places (`Placement`); `place` writes the files there.  Nothing is extracted to a
path that the archive chose, existing files are kept, and a file appears under its name only once it is complete, so a
killed run continues when it is started again.
"""

import argparse
import contextlib
import io
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from dataset.archives import Archive, read_member
from util.ahead import available_cores, map_parallel
from util.errors import LONGEST_QUOTE, InputError, shorten
from util.files import make_folder, within_temporary, write_new
from util.flags import Parser, worker_count
from util.guards import path_in
from util.image import as_rgb, brightness, is_whole, open_picture, refuse_lossy
from util.image_folder import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from util.lock import Lock
from util.orientation import upright
from util.progress import progress_bar

JPEG_QUALITY = 95
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

PICTURES = IMAGE_SUFFIXES | UNREAD_SUFFIXES
SPOT_CHECKS = 50  # one in so many of the pictures that are already there is compared with its archive's
SMALL_PART = 3  # an archive of which less than one in so many of the pictures is used is probably another one than is thought

Convert = Callable[[bytes], bytes]


class UnusedError(InputError):
    """Little of an archive could be used."""

    status = 1


class Placement(NamedTuple):
    """Where a file goes and how its bytes are converted (`None`: unchanged)."""

    folder: Path
    name: str  # below it, parts joined by "/"; it comes from the archive, so `target` checks it
    convert: Convert | None = None

    def target(self, source: object) -> Path:
        """The file to write; raises `InputError`, naming `source`, if the name leads out of the folder."""
        return path_in(self.folder, *self.name.split("/"), source=_told(source))


def preparation_parser(doc: str | None, *, output: str, workers: bool = False) -> argparse.ArgumentParser:
    """A parser with the flags that the `prepare_*.py` scripts share; `doc` begins with the description."""
    parser = Parser(doc)
    parser.add_argument(
        "archives",
        nargs="*",
        metavar="ARCHIVE",
        help="a downloaded archive, or the folder it was unpacked to; without any, prints where to get them",
    )
    parser.add_argument("--output", default=output, metavar="DIR", help="folder to fill; existing files are kept")
    if workers:
        parser.add_argument(
            "--num_workers", type=worker_count, default=available_cores(), metavar="N", help="worker processes (0: none)"
        )
    return parser


def place(plans: Iterable[tuple[Archive, Mapping[str, Placement]]], *, workers: int = 0) -> None:
    """Place files by name, checking all targets before anything is written; see `place_stream`.

    A file to which several names lead is placed once.  Also raises `InputError` if two files would get the same target.
    """
    checked: list[tuple[Archive, Callable[[str], Placement | None]]] = []
    sources: dict[Path, tuple[str, Path]] = {}
    again: set[str] = set()
    for archive, placements in plans:
        once: dict[str, Placement] = {}
        checked.append((archive, once.get))
        for name, placement in placements.items():
            source, real = f"{archive.path}: {name}", archive.real(name)
            target = placement.target(source)
            other, same = sources.setdefault(target, (source, real))
            if real != same:
                raise InputError(f"{_told(source)}: would become {target}, and so would {_told(other)}")
            if source == other:
                once[name] = placement
                _is_placed(placement, archive.sizes[name], source)
            else:
                again.add(source)
    place_stream(checked, workers=workers, again=again)


def place_stream(
    plans: Iterable[tuple[Archive, Callable[[str], Placement | None]]], *, workers: int = 0, again: Collection[str] = ()
) -> None:
    """Place the files of archives in one pass, with progress; a function maps each name to its place (`None`: skip).

    Existing files are kept.  `workers` processes convert and write (0: this process).  What is in `again`, as `<archive>:
    <name>`, is placed under another name, and so is used.  Raises `InputError` if a target exists that is not the archive's
    file, if an archive is damaged, and, after all else is written, if some files could not be read, or (`UnusedError`) few
    pictures of an archive had a place.
    """
    plans = list(plans)
    outcomes: list[str | None] = []  # of what was to be written: `None`, or the problem
    little: list[str] = []
    told: list[str] = []
    kept = 0
    begun = time.time() - 1  # a second for file systems with coarse times
    size = 1 + sum(archive.size for archive, _ in plans) // 1_000_000
    with progress_bar(size, "MB") as bar:

        def jobs() -> Iterator[_Job]:
            nonlocal kept
            done = 0
            for archive, placement_of in plans:
                used, total, others = Counter(), Counter(), defaultdict(list)  # by kind of file
                for member in archive.members():
                    bar.update(min(size, (done + member.position) // 1_000_000))  # a damaged archive may say anything
                    placement, source = placement_of(member.name), f"{archive.path}: {member.name}"
                    if PurePosixPath(member.name).suffix.lower() in PICTURES:
                        is_used = placement is not None or source in again
                        for kind in ("pictures", "frames") if "JPEGImages/" in member.name else ("pictures",):
                            total[kind] += 1
                            used[kind] += is_used
                            others[kind] += [] if is_used or len(others[kind]) == 3 else [member.name]
                    if placement is None:
                        continue
                    if _is_placed(placement, member.size, source):
                        there = placement.target(source)
                        is_new = there.stat().st_mtime >= begun and placement.convert is None  # by an earlier member, perhaps
                        if is_new and there.read_bytes() != read_member(archive, member):
                            raise InputError(f"{there}: differs from {_told(source)}, which is another file of this name")
                        if placement.convert and kept % SPOT_CHECKS == 0:
                            _refuse_other_picture(there, placement.convert, read_member(archive, member), source)
                        kept += 1
                        continue
                    try:
                        job = _Job(source, read_member(archive, member), placement)
                    except InputError as error:
                        outcomes.append(str(error))
                        continue
                    if placement.convert:
                        yield job
                    else:  # copying is not worth another process
                        outcomes.append(_write(job))
                done += archive.size
                for kind in total:
                    what = f"{archive.path}: used {used[kind]} of {total[kind]} {kind}, not {', '.join(others[kind])}"
                    if SMALL_PART * used[kind] < total[kind]:
                        little.append(what)
                    elif kind == "pictures" and used[kind] < total[kind]:
                        told.append(what)

        for outcome in map_parallel(_write, jobs(), workers=workers):
            outcomes.append(outcome)
    problems = [problem for problem in outcomes if problem]
    written = len(outcomes) - len(problems)
    print("\n".join([*told, f"{written} files written, {kept} already there"]))
    if problems:
        raise InputError(f"{len(problems)} files cannot be read and were left out: {'; '.join(problems[:3])}")
    if little:
        raise UnusedError(f"{little[0]}; is it another archive, or are its folders called otherwise?")


Plan = Callable[[list[Archive], Path], Iterable[tuple[Archive, Any]]]


def prepare(arguments: argparse.Namespace, sources: str, plan: Plan, *, put: Callable[..., None] = place) -> None:
    """The body of a `prepare_*.py` script: place the archives given on the command line as `plan` says, or print `sources`.

    put: `place`, or `place_stream` for archives too large to list first; `plan` makes what it takes
    """
    if not arguments.archives:
        print(sources)
        return
    archives = [Archive(path) for path in arguments.archives]
    with Lock(arguments.output, "a prepare_*.py script"):
        put(plan(archives, Path(arguments.output)), workers=getattr(arguments, "num_workers", 0))


def one_by_one(plan: Callable[[Archive, Path], Any]) -> Plan:
    """A plan for several archives from a plan for one."""
    return lambda archives, output: [(archive, plan(archive, output)) for archive in archives]


def convert_image(data: bytes, *, shorter: int | None = None, longer: int | None = None) -> bytes:
    """A photograph as JPEG, shrunk (bicubic, antialiased) until its shorter or longer side has the given number of pixels; a
    JPEG that is small enough stays as it is.  Raises `InputError`, without the file's name, as `util.image.as_rgb`.
    """
    image = _decoded(data)
    size = _shrunk(image.size, shorter, longer)
    if image.format == "JPEG" and size == image.size:
        return data
    return _encoded(as_rgb(image).resize(size, Image.Resampling.BICUBIC), "JPEG", quality=JPEG_QUALITY)


def convert_mask(data: bytes, *, shorter: int | None = None, longer: int | None = None, grey: bool = False) -> bytes:
    """A mask as PNG, shrunk like `convert_image` but with nearest interpolation; ids and palette are kept, unless `grey`.
    Raises `InputError`, without the file's name, if it is broken, lossy or, without `grey`, not a label map.
    """
    image = _decoded(data)
    refuse_lossy(image)
    size = _shrunk(image.size, shorter, longer)
    if not grey and image.mode not in ("P", "L", "1"):
        raise InputError(f"expected a label map (a paletted or greyscale PNG), found mode {image.mode}")
    if image.format == "PNG" and size == image.size and (not grey or image.mode == "L"):
        return data
    if grey:
        image = Image.fromarray(brightness(image))
    return _encoded(image.resize(size, Image.Resampling.NEAREST), "PNG")


def _told(source: object) -> str:
    """An archive and the name of a file in it, for a message."""
    return shorten(str(source), LONGEST_QUOTE)


class _Job(NamedTuple):
    source: str
    data: bytes
    placement: Placement


def _write(job: _Job) -> str | None:
    """Convert and write a file; returns an error message if its content is invalid, else `None`."""
    target, convert = job.placement.target(job.source), job.placement.convert
    try:
        data = convert(job.data) if convert else job.data
    except InputError as error:
        return f"{_told(job.source)}: {error}"
    # not `write_atomically`: flushing each of millions of files to disk would take days.  The temporary name is always the
    # same, so a run after a kill overwrites the leftover.
    partial = target.with_name(f".{within_temporary(target.name)}.partial")
    try:
        make_folder(target.parent)
        write_new(partial, data)
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"{target}: cannot write ({error.strerror})") from error
    return None


def _is_placed(placement: Placement, size: int, source: str) -> bool:
    """Whether a file is already in its place; raises `InputError` if a different one is."""
    target = placement.target(source)
    try:
        found = target.stat()
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        raise InputError(f"{target.parent}: expected a folder, found a file there or above") from error
    other = not stat.S_ISREG(found.st_mode) or (placement.convert is None and found.st_size != size)
    if other or (target.suffix.lower() in IMAGE_SUFFIXES and not is_whole(target)):
        raise InputError(
            f"{target}: differs from {_told(source)}; is it from another data set or year? Choose another --output"
        )
    return True


def _refuse_other_picture(target: Path, convert: Convert, data: bytes, source: str) -> None:
    """Raise `InputError` if a picture is not what `convert` makes of a member's data: of another edition, or another size.

    Of JPEG only the size is compared, since other versions of its encoder make other pixels.
    """
    try:
        expected, found = _decoded(convert(data)), _decoded(target.read_bytes())
    except InputError:
        return  # the member is broken, and so was not what was written
    if expected.size != found.size or (target.suffix == ".png" and expected.tobytes() != found.tobytes()):
        what = "was it made of another edition, or with other flags? Choose another --output"
        raise InputError(f"{target}: differs from {_told(source)}: {what}")


def _decoded(data: bytes) -> Image.Image:
    try:
        image = open_picture(io.BytesIO(data))
        image.load()  # truncation is detected only here
        return upright(image)
    except BROKEN_IMAGE as error:
        raise InputError(f"cannot read this image ({error})") from error


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    result = io.BytesIO()
    image.save(result, format=kind, **options)
    return result.getvalue()


def _shrunk(size: tuple[int, int], shorter: int | None, longer: int | None) -> tuple[int, int]:
    """The size with its shorter or longer side shrunk to the given pixels and the other rounded down; never enlarged."""
    found, wanted = (min(size), shorter) if shorter else (max(size), longer)
    if wanted is None or found <= wanted:
        return size
    return max(1, size[0] * wanted // found), max(1, size[1] * wanted // found)
