"""From archives as they are downloaded to the folders that training and evaluation read.

A script says by their names where an archive's files go (`Placement`); `place` puts them there.  Nothing is extracted
under a name that the archive chose, what is there already stays, and a file appears under its name only when it is
whole: running again after a kill goes on where it stopped.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from dataset.archives import Archive, read_member
from util.ahead import map_ahead
from util.errors import InputError
from util.files import make_folder, path_in
from util.flags import DefaultsFormatter, first_line, worker_count
from util.image import as_rgb, refuse_lossy
from util.progress import progress_bar

JPEG_QUALITY = 95
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

Convert = Callable[[bytes], bytes]


class Placement(NamedTuple):
    """Where a file goes and what is done to its bytes; `None` leaves them as they are."""

    folder: Path
    name: str  # below it, parts joined by "/": from the archive, so that it is trusted only when it has been looked at
    convert: Convert | None = None

    def target(self, source: object) -> Path:
        """The file to write; raises `InputError`, naming `source`, when the name leads out of the folder."""
        return path_in(self.folder, *self.name.split("/"), source=str(source))


def preparation_parser(doc: str | None, *, output: str, workers: bool = False) -> argparse.ArgumentParser:
    """The flags that the `prepare_*.py` scripts share; `doc` begins with the description."""
    parser = argparse.ArgumentParser(description=first_line(doc), formatter_class=DefaultsFormatter)
    parser.add_argument(
        "archives",
        nargs="*",
        metavar="ARCHIVE",
        help="as downloaded, or the folder that it was unpacked to; without any, prints where to get them",
    )
    parser.add_argument("--output", default=output, metavar="DIR", help="folder to fill; existing files are kept")
    if workers:
        parser.add_argument(
            "--num_workers", type=worker_count, default=os.cpu_count(), metavar="N", help="processes that resize (0: none)"
        )
    return parser


def place(plans: Iterable[tuple[Archive, Mapping[str, Placement]]], *, workers: int = 0) -> None:
    """Put files where plans of their names say, checked before anything is written; see `place_stream`.

    Raises `InputError` as well when two files would become the same.
    """
    plans = list(plans)
    sources: dict[Path, str] = {}
    for archive, placements in plans:
        for name, placement in placements.items():
            source = f"{archive.path}: {name}"
            target = placement.target(source)
            if other := sources.get(target):
                raise InputError(f"{source}: would become {target}, and so would {other}")
            sources[target] = source
            _is_placed(placement, archive.sizes[name], source)
    place_stream(((archive, placements.get) for archive, placements in plans), workers=workers)


def place_stream(plans: Iterable[tuple[Archive, Callable[[str], Placement | None]]], *, workers: int = 0) -> None:
    """Put the files of archives where functions of their names say (`None`: nowhere), in one pass, with progress.

    Files that are there already stay.  `workers` processes convert and write, 0: this one does.  Prints what was done.
    Raises `InputError` when a file is there that is not the archive's, when an archive is damaged, and, after all others
    were written, when single files could not be read.
    """
    plans = list(plans)
    problems: list[str] = []
    kept = written = done = 0

    def account(problem: str | None) -> None:
        nonlocal written
        if problem:
            problems.append(problem)
        else:
            written += 1

    with progress_bar(1 + sum(archive.size for archive, _ in plans) // 1_000_000, "MB") as bar:

        def jobs() -> Iterator[_Job]:
            nonlocal kept, done
            for archive, placement_of in plans:
                for member in archive.members():
                    bar.update((done + member.position) // 1_000_000)
                    placement = placement_of(member.name)
                    if placement is None:
                        continue
                    source = f"{archive.path}: {member.name}"
                    if _is_placed(placement, member.size, source):
                        kept += 1
                        continue
                    try:
                        job = _Job(source, read_member(archive, member), placement)
                    except InputError as error:
                        account(str(error))
                        continue
                    if placement.convert:
                        yield job
                    else:  # not worth another process
                        account(_write(job))
                done += archive.size

        for problem in map_parallel(_write, jobs(), workers=workers):
            account(problem)
    print(f"{written} files written, {kept} were there already")
    if problems:
        raise InputError(f"{len(problems)} files cannot be read and were left out: {'; '.join(problems[:5])}")


Plan = Callable[[list[Archive], Path], Iterable[tuple[Archive, Any]]]


def prepare(arguments: argparse.Namespace, sources: str, plan: Plan, *, put: Callable[..., None] = place) -> None:
    """What a `prepare_*.py` script does: put the archives that its flags name where `plan` says.

    arguments: of a `preparation_parser`
    sources:   where to get the archives; printed when none are given
    plan:      where the files of the given archives go below the output folder, as `put` takes it
    put:       `place`, or `place_stream` for archives too large to be listed first
    """
    if not arguments.archives:
        print(sources)
        return
    archives = [Archive(path) for path in arguments.archives]
    put(plan(archives, Path(arguments.output)), workers=getattr(arguments, "num_workers", 0))


def one_by_one(plan: Callable[[Archive, Path], Any]) -> Plan:
    """A plan for several archives from a plan for one."""
    return lambda archives, output: [(archive, plan(archive, output)) for archive in archives]


def map_parallel(function: Callable[[Any], Any], items: Iterable[Any], *, workers: int) -> Iterator[Any]:
    """`map(function, items)` in so many processes (0: in this one), a few items ahead; results in order.

    Raises `InputError` when a process dies.
    """
    if workers == 0:
        yield from map(function, items)
        return
    # fresh processes: a fork of one that has run threads may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker) as pool:
        try:
            yield from map_ahead(pool, function, items, limit=8 * workers)
        except BrokenProcessPool as error:
            raise InputError("a worker process died; out of memory? Run again to go on, with fewer --num_workers") from error


def convert_image(data: bytes, *, shorter: int | None = None, longer: int | None = None) -> bytes:
    """A photograph as JPEG, shrunk (bicubic over all pixels, so that nothing aliases) until one side has so many pixels.

    One that is a JPEG and small enough stays as it is.  Raises `InputError`, without the file's name, when it is broken or
    no 8-bit colour can be made of it (`util.image.as_rgb`).
    """
    image = _decoded(data)
    size = _shrunk(image.size, shorter, longer)
    if image.format == "JPEG" and size == image.size:
        return data
    return _encoded(as_rgb(image).resize(size, Image.Resampling.BICUBIC), "JPEG", quality=JPEG_QUALITY)


def convert_mask(data: bytes, *, shorter: int | None = None, longer: int | None = None, grey: bool = False) -> bytes:
    """A mask as PNG, shrunk as `convert_image` does but nearest; ids and palette stay, or `grey` makes it greyscale.

    Raises `InputError`, without the file's name, when it is broken, lossy or, but for `grey`, no label map.
    """
    image = _decoded(data)
    refuse_lossy(image)
    size = _shrunk(image.size, shorter, longer)
    if not grey and image.mode not in ("P", "L", "1"):
        raise InputError(f"expected a label map (a paletted or greyscale PNG), found mode {image.mode}")
    if image.format == "PNG" and size == image.size and (not grey or image.mode == "L"):
        return data
    if grey:
        image = (as_rgb(image) if image.mode[0] in "IF" else image).convert("L")  # of 16 bits Pillow makes white
    return _encoded(image.resize(size, Image.Resampling.NEAREST), "PNG")


class _Job(NamedTuple):
    source: str
    data: bytes
    placement: Placement


def _write(job: _Job) -> str | None:
    """Convert and write a file; returns what is wrong with its content, if anything is."""
    target, convert = job.placement.target(job.source), job.placement.convert
    try:
        data = convert(job.data) if convert else job.data
    except InputError as error:
        return f"{job.source}: {error}"
    # not `write_atomically`: waiting for the disk at each of millions of files would take days, and the name is the same
    # each time, so that running again after a kill leaves nothing behind
    partial = target.with_name(f".{target.name}.partial")
    try:
        make_folder(target.parent)
        partial.write_bytes(data)
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"{target}: cannot write ({error.strerror})") from error
    return None


def _is_placed(placement: Placement, size: int, source: str) -> bool:
    """Whether a file is in its place already; raises `InputError` when another one is."""
    target = placement.target(source)
    try:
        found = target.stat()
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        raise InputError(f"{target.parent}: expected a folder, found a file there or above") from error
    if not stat.S_ISREG(found.st_mode) or (placement.convert is None and found.st_size != size):
        raise InputError(f"{target}: differs from {source}; of another data set or year? Choose another --output")
    return True


def _decoded(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()  # a truncated file shows itself only here
        return image
    except UnidentifiedImageError as error:
        raise InputError("not an image") from error
    except BROKEN_IMAGE as error:
        raise InputError(f"cannot read this image ({error})") from error


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    result = io.BytesIO()
    image.save(result, format=kind, **options)
    return result.getvalue()


def _shrunk(size: tuple[int, int], shorter: int | None, longer: int | None) -> tuple[int, int]:
    """The size when its shorter or longer side becomes so many pixels, the other rounded down; never enlarged."""
    found, wanted = (min(size), shorter) if shorter else (max(size), longer)
    if wanted is None or found <= wanted:
        return size
    return max(1, size[0] * wanted // found), max(1, size[1] * wanted // found)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process to act on
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's processes wait for ever when the main one is killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
