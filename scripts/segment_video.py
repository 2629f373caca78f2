"""Segment your own video, given one or more masks.

python scripts/segment_video.py holiday.mp4 --frame 0 first.png     # save a frame to draw a mask on
python scripts/segment_video.py holiday.mp4 --mask first.png --output out/holiday
python scripts/segment_video.py frames/ --mask 30:dog.png 120:both.png --output out/dogs
python scripts/segment_video.py films/ --mask masks/ --output out   # each film with masks/NAME.png or masks/NAME/

Writes masks/NNNNN.png (paletted), overlay.mp4, sheet.png and, with --cutout, a video with alpha into --output.  Objects are
followed forwards and backwards from each mask; between two masks, both directions are blended.  If interrupted, run the same
command again to continue; masks/ appears when all is done.
"""

import argparse
import os
import re
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import util  # isort: skip, must come before PyTorch  # noqa: F401
import cv2
import numpy as np

from dataset.frame_folder import FrameFolder
from dataset.given_masks import GivenMask, add_mask_flags, keep_objects, open_with_masks
from dataset.mask_files import MASK_SUFFIXES
from dataset.mask_frames import frame_number
from dataset.own_video import add_video_flags, mean_rate, one_video, open_video, videos_in
from dataset.video_file import VideoFile
from evaluation.flags import add_check_memory_flag, add_segmenter_flags, note_enlarged
from evaluation.propagate import Propagation, Snapshots
from evaluation.run import segmenter_by_flags
from evaluation.video_results import COMPLETE, MASKS, RECORD, UNFINISHED, VideoResults
from model.checkpoint import digest
from util.errors import InputError, WriteError, names_some, one_line, one_line_errors, print_note, shorten, warn
from util.files import one_line_for, stamp
from util.film import Film, alpha_suffix
from util.flags import Parser, int_between
from util.guards import is_clutter, path_in, refuse_existing
from util.lock import Lock
from util.picture import cut_out, overlay, sheet, write_picture
from util.progress import progress_bar

SIZE = 480  # pixels, shorter side
SHEET_FRAMES, SHEET_COLUMNS = 12, 4
SHEET_HEIGHT, SHEET_WIDTH = 160, 640  # pixels per frame on the sheet: height, maximum width
WAITING = 4  # maximum number of frames waiting to be written


def segment(propagation: Propagation, results: VideoResults) -> None:
    """Do the remaining steps and complete the results."""
    video = propagation.video
    length = len(video.names)
    shown = {round(i * (length - 1) / (SHEET_FRAMES - 1)) for i in range(SHEET_FRAMES)}
    thumbnails: list[np.ndarray] = []
    snapshots = Snapshots(results.save)

    def write(index: int, image: np.ndarray, labels: np.ndarray | None) -> None:
        if labels is None:
            labels = results.read_mask(index, video.size)
        else:
            results.write_mask(index, labels)
        picture = overlay(image, labels)
        film.add(picture, video.times[index])
        if cutout is not None:
            cutout.add(cut_out(image, labels), video.times[index])
        if index in shown:
            thumbnails.append(thumbnail(picture))

    with (
        progress_bar(propagation.steps, "frames", start=propagation.done) as bar,
        Film(results.film, video.size, mean_rate(video), pixel=video.pixel) as film,
        Film(results.cutout, video.size, mean_rate(video), pixel=video.pixel, alpha=True)
        if results.cutout
        else nullcontext() as cutout,
        ThreadPoolExecutor(1) as writer,
    ):
        for step in propagation.backwards(results.unfinished):
            if step.labels is not None:
                results.write_mask(step.index, step.labels)
            if step.estimate is not None:
                results.write_estimate(step.index, step.estimate)
            if snapshots.due:
                snapshots.save(propagation)
            bar.update(propagation.done)
        waiting: deque[Future] = deque()
        for frame in propagation.forwards(results.read_estimate):
            waiting.append(writer.submit(write, *frame[:3]))
            due = snapshots.due and frame.labels is not None
            while len(waiting) > (0 if due else WAITING):
                waiting.popleft().result()
            if due:  # all masks so far are written
                snapshots.save(propagation)
            bar.update(propagation.done)
        while waiting:
            waiting.popleft().result()
        film.close()
        if cutout is not None:
            cutout.close()
    numbers = [frame_text(index, video.names[index]) for index in sorted(shown)]
    starts = range(0, len(numbers), SHEET_COLUMNS)
    rows = [thumbnails[i : i + SHEET_COLUMNS] for i in starts]
    captions = [numbers[i : i + SHEET_COLUMNS] for i in starts]
    write_picture(results.sheet, sheet(rows, captions=captions))
    results.finish()


def add_cutout(video: FrameFolder | VideoFile, results: VideoResults) -> None:
    """Complete a finished run by the film of cut-outs, from its masks."""
    assert results.cutout is not None
    with (
        progress_bar(len(video.names), "frames") as bar,
        Film(results.cutout, video.size, mean_rate(video), pixel=video.pixel, alpha=True) as film,
    ):
        for index, image in video.forwards():
            film.add(cut_out(image, results.read_mask(index, video.size)), video.times[index])
            bar.increment()
        film.close()
    results.finish()


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A frame scaled to fit the sheet, padded with grey if it is too narrow or too wide."""
    height, width = picture.shape[:2]
    scale = min(SHEET_HEIGHT / height, SHEET_WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    above = SHEET_HEIGHT - small.shape[0]
    beside = max(0, SHEET_HEIGHT // 4 - small.shape[1])
    around = [(above // 2, above - above // 2), (beside // 2, beside - beside // 2), (0, 0)]
    return np.pad(small, around, constant_values=128)


def write_frame(video_path: str, number: str, path: Path, *, overwrite: bool, allow_truncated: bool) -> None:
    """Write a frame of a video as a PNG; raises `InputError` if the frame or the file name is unsuitable."""
    if path.suffix.lower() != ".png":
        raise InputError(f"--frame {number} {path}: expected a file name that ends in .png")
    source = Path(video_path)
    frames = source if source.exists() else source.parent  # of a pattern
    place, folder, taken = map(os.path.realpath, (path, path.parent, frames))  # `resolve` would fail on a circle of links
    if place == taken or (frames.is_dir() and folder == taken):
        raise InputError(f"{path}: is in the folder of the frames; choose another place")
    refuse_existing(path, overwrite=overwrite)
    video = open_video(source, allow_truncated=allow_truncated)
    if video.note:
        print_note(video.note)
    if not re.fullmatch("[0-9]{1,9}", number):
        raise InputError(f"--frame {shorten(number)}: the video has frames 0 to {len(video.names) - 1}")
    write_picture(path, video.frame(frame_number(number, video.names, f"--frame {number}")))
    print(path)


def settings_of(arguments: argparse.Namespace, video: FrameFolder | VideoFile, masks: dict[int, GivenMask]) -> dict:
    """All that the results depend on, besides the segmenter."""
    is_folder = isinstance(video, FrameFolder)
    names = {str(number): name for mask in masks.values() for number, name in mask.names.items()}
    return {
        "video": stamp(video.paths if is_folder else [video.path]),
        **{f"mask {frame}": stamp(mask.files) for frame, mask in masks.items()},
        **({"background": arguments.background} if arguments.background is not None else {}),
        **({"soft_edges": True} if arguments.soft_edges else {}),
        "fps": arguments.fps if is_folder else None,
        **({"objects": sorted(set(arguments.objects))} if arguments.objects else {}),
        **({"names": names} if names else {}),
        **({"cutout": f"cutout{alpha_suffix()}"} if arguments.cutout else {}),
    }


def records(arguments: argparse.Namespace) -> list[Path]:
    """The records of runs that this one may continue or find finished."""
    root = Path(arguments.output)
    return [root / UNFINISHED / RECORD, root / COMPLETE / RECORD, *([] if arguments.overwrite else [root / RECORD])]


def frame_text(index: int, name: str) -> str:
    """A frame's number, as counted by `--mask`, with its name if that differs."""
    return str(index) if name.isdecimal() and int(name) == index else f"{index} ({name})"


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    add_video_flags(
        result,
        several="which are done one after the other: then --mask is a folder with NAME.png, NAME.json or NAME/ for each, and "
        "the results are in --output/NAME",
    )
    add_mask_flags(result)
    result.add_argument(
        "--frame",
        nargs=2,
        metavar=("N", "FILE"),
        help="save frame N as a PNG to draw a mask on, and do nothing else",
    )
    result.add_argument(
        "--objects",
        nargs="+",
        type=int_between(1, 254),
        metavar="N",
        help="numbers of the objects to follow; others in the masks are left out (default: all)",
    )
    result.add_argument(
        "--cutout",
        action="store_true",
        help="also write the objects without their surroundings, as a video with alpha (ProRes 4444, or VP9 without it)",
    )
    result.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    add_segmenter_flags(result, size=SIZE, max_memory_frames=20, output_required=False)
    add_check_memory_flag(result)
    return result


@one_line_errors
def main() -> int | None:
    for word in sys.argv[1:]:
        if re.match("-[0-9]+:", word):  # argparse would take it for a flag
            raise InputError(f"--mask {word}: expected FRAME:FILE with a frame from 0 on")
    arguments = parser().parse_args()
    arguments.video = one_video(arguments.video)
    options = {"overwrite": arguments.overwrite, "allow_truncated": arguments.allow_truncated}
    if arguments.frame and (arguments.mask or arguments.output):
        raise InputError("--frame: saves a frame to draw a mask on, without --mask or --output")
    if not (arguments.frame or (arguments.mask and arguments.output)):
        missing = "--output" if arguments.mask else "--mask" if arguments.output else "--mask and --output, or --frame"
        raise InputError(f"expected {missing}; see --help")
    with one_line_for(arguments.output or arguments.video):
        if arguments.frame:
            write_frame(arguments.video, arguments.frame[0], Path(arguments.frame[1]), **options)
        elif (
            len(arguments.mask) == 1
            and os.path.isdir(arguments.mask[0])  # unlike `Path.is_dir`, false for what no path can be
            and (videos := videos_in(Path(arguments.video), leave_out=Path(arguments.mask[0])))
        ):
            return run_each(arguments, videos, Path(arguments.mask[0]))
        else:
            run(arguments)
    return None


def run_each(arguments: argparse.Namespace, videos: dict[str, Path], masks: Path) -> int:
    """Segment each video that has masks; returns the exit status, 1 if one failed or has none, or a mask has no video.

    Raises `InputError` if no video has masks, or the disk is full.
    """
    digest(arguments.model)  # else it would be told for each video that there is none
    given = {name: masks_of(name, masks) for name in videos}
    if absent := [name for name, path in given.items() if path is None]:
        what = (
            f"{masks}: expected a mask called {names_some(f'{name}.png' for name in absent)}, or a folder of masks, found none"
        )
        if len(absent) == len(given):
            raise InputError(what)
        warn(f"{what}; left out")
    kinds = (*MASK_SUFFIXES, ".json", ".npy")
    files = (path for path in masks.iterdir() if not is_clutter(path.name) and (path.is_dir() or path.suffix.lower() in kinds))
    if strange := sorted(path.name for path in files if not {path.name, path.stem} & videos.keys()):
        warn(f"{masks}: found {names_some(strange)}, but no video of that name in {arguments.video}")
    failed = len(absent) + len(strange)
    for number, (name, video) in enumerate(videos.items(), start=1):
        if given[name] is None:
            continue
        print(f"{name} ({number} of {len(videos)})", flush=True)
        output = path_in(arguments.output, name, source=video)
        try:
            own = {"video": str(video), "mask": [str(given[name])], "output": str(output)}
            run(argparse.Namespace(**vars(arguments) | own))
        except WriteError:
            raise
        except InputError as error:
            failed += 1
            print(f"error: {one_line(str(error))}", file=sys.stderr)
    return int(failed > 0)


def masks_of(name: str, folder: Path) -> Path | None:
    """The mask or the folder of masks of this name, if there is one; raises `InputError` if there are several."""
    found = [path for path in sorted(folder.iterdir()) if (path.name if path.is_dir() else path.stem) == name]
    if len(found) > 1:
        raise InputError(
            f"{folder}: expected one mask or folder called {name}, found {names_some(each.name for each in found)}"
        )
    return found[0] if found else None


def run(arguments: argparse.Namespace) -> None:
    digest(arguments.model)  # fail early if it is missing, before the video is read
    video, found = open_with_masks(arguments, arguments.video, rate=arguments.fps)
    note_enlarged(arguments, video.size, SIZE)
    masks = keep_objects(found, arguments.objects) if arguments.objects else found
    maker, chosen = segmenter_by_flags(arguments, *records(arguments))
    labels = {frame: mask.labels for frame, mask in masks.items()}
    propagation = Propagation(video, labels, maker, stated={frame: mask.gone for frame, mask in masks.items()})
    if arguments.check_memory == "on":
        propagation.refuse_if_too_large()
    results = VideoResults(arguments.output, video.names, settings_of(arguments, video, found) | chosen)
    frames = video.paths if isinstance(video, FrameFolder) else []
    inputs = [Path(arguments.video), *frames, *(file for mask in found.values() for file in mask.files), Path(arguments.model)]
    with Lock(results.root, "segment_video.py"):
        if results.claim(inputs, overwrite=arguments.overwrite):
            print(f"{results.root}: already finished; --overwrite repeats it")
        elif results.only_cutout:
            add_cutout(video, results)
        else:
            if results.resume(propagation):
                print(f"{results.root}: resuming after {propagation.done} of {propagation.steps} frames in both directions")
            segment(propagation, results)
    for name in (MASKS, *results.files):
        print(results.root / name)


if __name__ == "__main__":
    sys.exit(main())
