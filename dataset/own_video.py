"""What a user names as a video: a film, a folder of frames, or a pattern."""

import argparse
import glob
import os
import re
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

from dataset.frame_folder import FrameFolder
from dataset.video_file import VideoFile
from util.errors import InputError, names_some
from util.flags import float_between
from util.guards import is_clutter
from util.image_folder import IMAGE_SUFFIXES, in_order, list_frames, refuse_twins

FILM_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".mxf"}
    | {".3gp", ".3g2", ".asf", ".dv", ".f4v", ".m2v", ".mod", ".qt", ".vob"}
)  # of the films in a folder of several; any other film may be named itself


def add_video_flags(parser: argparse.ArgumentParser, *, several: str) -> None:
    """Add `video`, `--fps` and `--allow_truncated`; `several` tells what becomes of a folder of videos."""
    add_one_video_flags(parser, f"; or a folder of videos and folders of frames, {several}")
    parser.add_argument(
        "--fps", type=float_between(0.01, 1000), default=24, help="frames per second of a folder of frames, 0.01 to 1000"
    )


def add_one_video_flags(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add `video` and `--allow_truncated`."""
    parser.add_argument("video", nargs="+", help=f"a video file, a folder of frames, or frames such as frames/*.jpg{more}")
    parser.add_argument(
        "--allow_truncated",
        action="store_true",
        help="if the video file is cut short or damaged, use the frames that can be decoded",
    )


def open_video(
    path: str | Path, *, rate: Fraction = Fraction(24), allow_truncated: bool = False, leave_out: Collection[Path] = ()
) -> FrameFolder | VideoFile:
    """A folder of frames (at `rate` frames per second, without the files in `leave_out`), a pattern such as `frames/*.jpg` or
    `frames/%05d.jpg` for some of its frames, or a video file.  Raises `InputError` if it is none of these.
    """
    path = Path(path)
    if path.is_dir():
        return FrameFolder(path, rate=rate, leave_out=leave_out)
    if not path.exists() and re.search("[*?%[]", str(path)):
        return FrameFolder(path, _matching(path), rate=rate)
    if not path.is_file():
        raise InputError(f"{path}: no such video or folder of frames")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path}: expected a video or a folder of frames, found a picture; give its folder, {path.parent}")
    return VideoFile(path, allow_truncated=allow_truncated)


def one_video(words: Sequence[str]) -> str:
    """The video that the words of a command name: one, or all files of a pattern, as shells expand it; else `InputError`."""
    if len(words) == 1:
        return words[0]
    folder, suffixes = Path(words[0]).parent, {Path(word).suffix for word in words}
    pattern = folder / f"*{min(suffixes)}"
    if suffixes <= IMAGE_SUFFIXES and {*map(Path, words)} == {*_matching(pattern)}:
        return str(pattern)
    advice = f"quote it, '{pattern}'" if suffixes & IMAGE_SUFFIXES else "run the command for each of them"
    raise InputError(f"expected one video or folder of frames, found {len(words)}: {words[0]}, {words[1]}, ...; {advice}")


def _matching(pattern: Path) -> list[Path]:
    """The pictures that match a pattern with `*`, `?` or `%05d`, in natural order."""
    folder = glob.escape(str(pattern.parent)) if pattern.parent.is_dir() else str(pattern.parent)
    found = glob.glob(os.path.join(folder, re.sub(r"%\d*d", "*", pattern.name)))
    if "%" in pattern.name:
        exact = re.compile(re.sub(r"%\d*d", r"-?\\d+", re.escape(pattern.name)))
        found = [name for name in found if exact.fullmatch(Path(name).name)]
    frames = [path for path in map(Path, found) if path.suffix.lower() in IMAGE_SUFFIXES]
    if len(folders := {path.parent for path in frames}) > 1:
        raise InputError(f"{pattern}: expected the frames of one folder, found those of {names_some(map(str, folders))}")
    return refuse_twins(in_order(frames))


def videos_in(folder: Path, *, leave_out: Path | None = None) -> dict[str, Path]:
    """The films and folders of frames in a folder that holds no frames itself, by name; empty if it is no such folder.

    `leave_out` is a folder of masks, which may be in it.  Pictures that are called like films are stills or masks of them.
    Raises `InputError` if two have the same name, or there are films and other pictures.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    films = {path.stem: path for path in folder.iterdir() if _is_film(path)}
    if pictures := [path for path in list_frames(folder) if path.stem not in films]:
        if films:
            what = f"films, as {min(films.values()).name}, and other pictures, as {pictures[0].name}"
            raise InputError(f"{folder}: found {what}; for the pictures alone, name '{folder / f'*{pictures[0].suffix}'}'")
        return found
    for path in in_order(folder.iterdir()):
        film = _is_film(path)
        frames = path.is_dir() and not (leave_out and path.samefile(leave_out)) and list_frames(path)
        if not is_clutter(path.name) and (film or frames):
            name = path.stem if film else path.name
            if name in found:
                raise InputError(f"{folder}: expected one video of each name, found {found[name].name} and {path.name}")
            found[name] = path
    return found


def _is_film(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in FILM_SUFFIXES and not is_clutter(path.name)


def mean_rate(video: FrameFolder | VideoFile) -> Fraction:
    """Frames a second, on average; 24 for a single frame."""
    seconds = video.times[-1] - video.times[0]
    return Fraction(len(video.times) - 1) / seconds if seconds else Fraction(24)
