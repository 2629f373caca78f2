"""Export a session: films, cut-outs, masks, a folder for training and evaluation, and what other tools read."""

import contextlib
import os
import re
import zipfile
from collections.abc import Callable, Collection, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from annotation.formats import FILES, FORMATS, Annotated, object_names, yolo_data, yolo_lines
from annotation.saved import EXPORT, EXPORTED, REPLACED
from annotation.session import Session
from dataset.frame_folder import FrameFolder
from dataset.own_video import mean_rate
from util.errors import printable
from util.files import make_folder, one_line_for, write_atomically, write_text
from util.film import Film, alpha_suffix
from util.guards import refuse_foreign, remove_folder
from util.label_map import colour_map, write_label_map
from util.picture import as_jpeg, cut_out, overlay, write_picture

Report = Callable[[int, int, int], object]  # frames done, all of them, the last one
Steps = Generator[None, None, None]
FILMS = ("overlay", "cutout_film")
PLACES = (  # of a frame's picture and of its mask, in each of `EXPORTED`
    ("", "{name}.png"),
    ("{name}.png", ""),
    ("JPEGImages/{video}/{name}.jpg", "Annotations/{video}/{name}.png"),
    ("images/{name}.jpg", "labels/{name}.txt"),
)
FOLDERS = dict(zip(EXPORTED, PLACES, strict=True))
YOLO_DATA, NAMES = "data.yaml", "objects.csv"
KINDS = (*FILMS, *FOLDERS, *FORMATS)


def export(session: Session, kind: str, report: Report) -> Generator[None, None, Path]:
    """Write one of `KINDS` into the session's export folder; yields on the way, calls `report`, and returns the path.

    overlay:     overlay.mp4, all frames with the objects tinted
    masks:       masks/NNNNN.png, a paletted label map for every frame, and objects.csv, the names
    cutout:      cutout/NNNNN.png, the objects with all else transparent
    cutout_film: the same as a film, ProRes 4444 or VP9
    dataset:     dataset/JPEGImages/<video>/ and Annotations/<video>/, with masks where there is one, and objects.csv
    yolo:        yolo/images/, labels/ and data.yaml, of the frames with a mask
    coco, cvat, areas: one file, of the frames with a mask (`annotation.formats`)

    The overlay and cut-outs do not show hidden objects.  An earlier export of the same kind is replaced when all is written.
    Raises `InputError` if its folder holds files of others.
    """
    path = export_path(session, kind)
    write = _film if kind in FILMS else _text if kind in FORMATS else _folder
    yield from write(session, path, kind, report)
    return path


@contextlib.contextmanager
def _replacing(path: Path, names: Collection[str]) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the context ends well; `names` are those of its files."""
    unfinished, replaced = (path.with_name(path.name + word) for word in ("_unfinished", REPLACED))

    def tidy() -> None:
        for folder in (unfinished, replaced):
            remove_folder(folder, names)

    refuse_foreign(path, names)
    tidy()  # what a crash has left
    make_folder(unfinished)
    try:
        yield unfinished
        if path.exists():
            os.replace(path, replaced)
        os.replace(unfinished, path)
    finally:
        tidy()


def export_path(session: Session, kind: str) -> Path:
    """The file or folder that `export` writes for one of `KINDS`."""
    files = {"overlay": "overlay.mp4", "cutout_film": f"cutout{alpha_suffix()}", **FILES}
    return session.root / EXPORT / files.get(kind, kind)


def zipped(folder: Path) -> Path:
    """Pack a folder that `export` has written, without compression, since pictures have theirs; returns the zip beside it."""
    path = folder.with_name(f"{folder.name}.zip")

    def pack(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:
            for each in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
                archive.write(each, printable(str(each.relative_to(folder.parent))))

    write_atomically(path, pack)
    return path


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A file that takes the place of `path` when the context ends well."""
    unfinished = path.with_name(f"unfinished{path.suffix}")
    unfinished.unlink(missing_ok=True)  # else what it is another name of would be written
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _film(session: Session, path: Path, kind: str, report: Report) -> Steps:
    """A video of all frames."""
    video, alpha = session.video, kind == "cutout_film"
    colours = np.zeros((256, 3), np.uint8)
    for each in session.objects:
        colours[each.id] = each.rgb
    draw = cut_out if alpha else partial(overlay, colours=colours)
    with (
        _unfinished(path) as unfinished,
        Film(unfinished, video.size, mean_rate(video), pixel=video.pixel, alpha=alpha) as film,
    ):
        for frame, image in video.forwards():
            film.add(draw(image, _shown(session, frame)), video.times[frame])
            report(frame + 1, session.length, frame)
            yield
        film.close()


def _text(session: Session, path: Path, kind: str, report: Report) -> Steps:
    """A file that tells the masks of all frames that have one."""
    video = session.video
    files = [each.name for each in video.paths] if isinstance(video, FrameFolder) else [f"{n}.jpg" for n in video.names]
    what = Annotated(_name(session), [printable(name) for name in files], video.times, video.size, _objects(session))

    def masks() -> Iterator[tuple[int, np.ndarray]]:
        for frame in range(session.length):
            if session.has_mask(frame):
                yield frame, session.labels(frame)
            report(frame + 1, session.length, frame)

    with one_line_for(path), _unfinished(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        for text in FORMATS[kind](what, masks()):
            file.write(text)
            yield


def _folder(session: Session, path: Path, kind: str, report: Report) -> Steps:
    """A picture of each frame (in YOLO's form, of each with a mask), and a file of its mask; or one of them."""
    video, places = _name(session), FOLDERS[kind]
    pictures, masks = ([place.format(video=video, name=name) for name in session.video.names] for place in places)
    objects = _objects(session)
    with _replacing(path, {*pictures, *masks, YOLO_DATA, NAMES} - {""}) as unfinished:
        if kind == "yolo":
            write_text(unfinished / YOLO_DATA, yolo_data(objects))
        elif places[1]:
            write_text(unfinished / NAMES, object_names(objects))
        frames = session.video.forwards() if places[0] else ((i, None) for i in range(session.length))
        for frame, image in frames:
            picture, mask = unfinished / pictures[frame], unfinished / masks[frame]
            if image is not None and kind == "cutout":
                write_picture(picture, cut_out(image, _shown(session, frame)))
            elif image is not None and (kind != "yolo" or session.has_mask(frame)):  # which takes others for background
                write_atomically(picture, lambda file, image=image: file.write(as_jpeg(image)))
            if kind == "masks" or (places[1] and session.has_mask(frame)):
                labels = session.labels(frame)
                if kind == "yolo":
                    write_text(mask, yolo_lines(labels, objects))
                else:
                    write_label_map(mask, labels, colour_map())
            report(frame + 1, session.length, frame)
            yield


def _shown(session: Session, frame: int) -> np.ndarray:
    """A frame's mask without hidden objects."""
    labels = session.labels(frame)
    return np.where(np.isin(labels, [each.id for each in session.objects if each.hidden]), np.uint8(0), labels)


def _objects(session: Session) -> dict[int, str]:
    return {each.id: each.name for each in session.objects}


def _name(session: Session) -> str:
    """The video's name, as one of a folder."""
    return re.sub(r"[^\w.-]+", "_", Path(session.identity["path"]).stem).strip(".") or "video"
