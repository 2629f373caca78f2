"""Export a session: videos, cut-outs, masks, and a folder for training and evaluation."""

import contextlib
import os
import re
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path

import cv2
import numpy as np

from annotation.session import EXPORT, Session
from annotation.state import Result
from dataset.video_file import mean_rate
from util.files import make_folder, refuse_foreign, remove_folder, write_atomically
from util.film import Film, alpha_suffix
from util.image import colour_map, write_label_map
from util.picture import cut_out, overlay, write_picture

Report = Callable[[int, int, int], object]  # frames done, all of them, the last one
FILMS = ("overlay", "cutout_film")
KINDS = (*FILMS, "masks", "cutout", "dataset")


def export(session: Session, kind: str, report: Report) -> Generator[None, None, Path]:
    """Write one of `KINDS` into the session's export folder; yields after each frame, calls `report`, and
    returns the path.

    overlay:     overlay.mp4, all frames with the objects tinted
    masks:       masks/NNNNN.png, a paletted label map for every frame
    cutout:      cutout/NNNNN.png, the objects with all else transparent
    cutout_film: the same as a film, ProRes 4444 or VP9
    dataset:     dataset/JPEGImages/<video>/ and Annotations/<video>/, with masks where there is one

    The overlay and cut-outs do not show hidden objects.  An earlier export of the same kind is replaced when all is written.
    Raises `InputError` if its folder holds files of others.
    """
    folder = session.root / EXPORT
    hidden = [each.id for each in session.objects if each.hidden]
    video = re.sub(r"[^\w.-]+", "_", Path(session.identity["path"]).stem).strip(".") or "video"

    def shown(frame: int) -> np.ndarray:
        labels = session.labels(frame)
        return np.where(np.isin(labels, hidden), np.uint8(0), labels)

    if kind in FILMS:
        alpha, path = kind == "cutout_film", film_path(session, kind)
        yield from _film(
            session, path, lambda frame, image: (cut_out if alpha else overlay)(image, shown(frame)), alpha, report
        )
        return path
    path, names = folder / kind, session.video.names
    images, annotations = (f"{part}/{video}" for part in ("JPEGImages", "Annotations"))
    known = {f"{name}.png" for name in names}
    if kind == "dataset":
        known = {*(f"{images}/{name}.jpg" for name in names), *(f"{annotations}/{name}.png" for name in names)}
    with _replacing(path, known) as unfinished:
        if kind == "masks":
            for frame, name in enumerate(names):
                write_label_map(unfinished / f"{name}.png", session.labels(frame), colour_map())
                report(frame + 1, session.length, frame)
                yield
            return path
        for frame, image in session.video.forwards():
            if kind == "cutout":
                write_picture(unfinished / f"{names[frame]}.png", cut_out(image, shown(frame)))
            else:
                _write_jpeg(unfinished / images / f"{names[frame]}.jpg", image)
                if frame in session.given or session.results[frame] != Result.MISSING:
                    write_label_map(unfinished / annotations / f"{names[frame]}.png", session.labels(frame), colour_map())
            report(frame + 1, session.length, frame)
            yield
    return path


@contextlib.contextmanager
def _replacing(path: Path, names: Collection[str]) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the context ends well; `names` are those of its files."""
    unfinished, replaced = (path.with_name(f"{path.name}_{word}") for word in ("unfinished", "replaced"))

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


def film_path(session: Session, kind: str) -> Path:
    """Where `export` writes one of `FILMS`."""
    return session.root / EXPORT / ("overlay.mp4" if kind == "overlay" else f"cutout{alpha_suffix()}")


def _film(
    session: Session,
    path: Path,
    draw: Callable[[int, np.ndarray], np.ndarray],
    alpha: bool,
    report: Report,
) -> Generator[None, None, None]:
    """A video of all frames; the file appears when it is complete."""
    video = session.video
    unfinished = path.with_name(f"unfinished{path.suffix}")
    try:
        with Film(unfinished, video.size, mean_rate(video), pixel=video.pixel, alpha=alpha) as film:
            for frame, image in video.forwards():
                film.add(draw(frame, image), video.times[frame])
                report(frame + 1, session.length, frame)
                yield
            film.close()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    write_atomically(path, lambda file: file.write(encoded.tobytes()))
