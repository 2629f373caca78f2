"""Follow the objects of one or more masks through your own video.

python scripts/segment_video.py holiday.mp4 --mask first.png --output out/holiday
python scripts/segment_video.py frames/ --mask 30:dog.png 120:both.png --output out/dogs

Writes masks/NNNNN.png (paletted), overlay.mp4 and sheet.png below --output; until all is done the masks lie in
masks_unfinished.  Objects are followed forwards and backwards from
where they are given, and between two given frames both ways.
"""

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.own_video import FrameFolder, GivenMasks, VideoFile, open_video, parse_masks, shrink
from evaluation.flags import add_segmenter_flags, segmenter_options
from model import VideoSegmenter, blend, segmenter_maker
from model.checkpoint import digest
from util.device import device_of
from util.errors import InputError, one_line_errors
from util.files import make_folder
from util.flags import DefaultsFormatter, positive_float
from util.image import colour_map, resize_labels, resize_probabilities, write_label_map
from util.picture import overlay, sheet, write_picture
from util.progress import progress_bar

SHEET_FRAMES, SHEET_COLUMNS = 12, 4
WAITING = 4  # frames that wait to be written
TICKS = 90_000  # a second, in which the overlay video counts time


class Passes(NamedTuple):
    """What going through a video in one direction needs."""

    make_segmenter: Callable[[], VideoSegmenter]
    masks: dict[int, np.ndarray]  # label maps (H, W) uint8 by frame, ascending
    size: tuple[int, int]  # of the results
    change: Callable[[np.ndarray], np.ndarray]  # a frame -> as the network sees it


def step(passes: Passes, segmenter: VideoSegmenter, index: int, image: np.ndarray) -> torch.Tensor:
    """Probabilities (N+1, h, w) of a frame, as the network sees it."""
    mask = passes.masks.get(index)
    if mask is not None:
        mask = resize_labels(torch.from_numpy(mask), image.shape[:2])
    return segmenter.step(image, mask)


def labels_of(probabilities: torch.Tensor, ids: list[int], size: tuple[int, int]) -> np.ndarray:
    """(N+1, h, w) -> (H, W) uint8."""
    numbers = torch.tensor([0, *ids], dtype=torch.uint8, device=probabilities.device)
    return numbers[resize_probabilities(probabilities, size).argmax(dim=0)].cpu().numpy()


def go_backwards(video: FrameFolder | VideoFile, passes: Passes, folder: Path, done: Callable[[], object]) -> None:
    """From the last given frame to the first of all: what is found lies in `folder`, as a file for each frame.

    Before the first given frame that is the result, (H, W) uint8; from there to the last, probabilities for `blend`.
    """
    segmenter = passes.make_segmenter()
    given = list(passes.masks)
    for frame in video.backwards(given[-1], passes.change, folder):
        probabilities = step(passes, segmenter, frame.index, frame.image)
        found: dict[str, np.ndarray] = {}
        if frame.index < given[0]:
            found["labels"] = labels_of(probabilities, segmenter.object_ids, passes.size)
        elif frame.index < given[-1]:
            found["probabilities"] = probabilities.half().cpu().numpy()
            found["ids"] = np.array(segmenter.object_ids)
        if found:
            np.savez_compressed(folder / f"{frame.index}.npz", **found)
        done()


def results(video: FrameFolder | VideoFile, passes: Passes, folder: Path) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each frame's index, picture and labels (H, W) uint8, in order, with what `go_backwards` has left in `folder`."""
    segmenter = passes.make_segmenter()
    given = list(passes.masks)
    for index, image in ahead(video.forwards()):
        path = folder / f"{index}.npz"
        back = dict(np.load(path)) if path.is_file() else {}
        if index < given[0]:
            yield index, image, back["labels"]
            continue
        probabilities, ids = step(passes, segmenter, index, passes.change(image)), segmenter.object_ids
        if "probabilities" in back:
            before = max(frame for frame in given if frame <= index)
            behind = min(frame for frame in given if frame > index)
            other = torch.from_numpy(back["probabilities"]).to(probabilities.device, probabilities.dtype)
            share = (index - before) / (behind - before)
            probabilities, ids = blend(probabilities, ids, other, back["ids"].tolist(), share)
        path.unlink(missing_ok=True)
        yield index, image, labels_of(probabilities, ids, passes.size)


def ahead(frames: Iterator) -> Iterator:
    """The same, decoded one frame ahead in a thread."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, frames, None)
        while (frame := following.result()) is not None:
            following = pool.submit(next, frames, None)
            yield frame


class OverlayVideo:
    """An H.264 video in mp4, which browsers play; written beside `path` until it is finished."""

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction) -> None:
        self.path, self.partial = path, path.with_name(f".{path.name}")
        self.container = av.open(str(self.partial), "w", format="mp4", options={"movflags": "faststart"})
        self.stream = self.container.add_stream("libx264", rate=rate.limit_denominator(1001))
        self.stream.height, self.stream.width = (side + side % 2 for side in size)  # 4:2:0 has no odd sides
        self.stream.pix_fmt = "yuv420p"
        self.stream.options = {"crf": "20", "preset": "veryfast"}
        self.stream.codec_context.time_base = Fraction(1, TICKS)

    def add(self, picture: np.ndarray, time: Fraction) -> None:
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        self.container.mux(self.stream.encode())
        self.container.close()
        os.replace(self.partial, self.path)


def segment(video: FrameFolder | VideoFile, passes: Passes, output: Path, *, rate: Fraction) -> None:
    """Write the masks, the overlay video and the sheet."""
    length, last = len(video.names), list(passes.masks)[-1]
    there = last + 1 if last > 0 else 0  # frames that are gone through backwards
    spilled, masks = output / ".backwards", output / "masks_unfinished"
    for folder in (spilled, masks):
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
    film = OverlayVideo(output / "overlay.mp4", passes.size, rate)
    shown = {round(i * (length - 1) / (SHEET_FRAMES - 1)) for i in range(SHEET_FRAMES)}
    thumbnails: list[np.ndarray] = []

    def write(index: int, image: np.ndarray, labels: np.ndarray) -> None:
        write_label_map(masks / f"{video.names[index]}.png", labels, colour_map())
        picture = overlay(image, labels)
        film.add(picture, video.times[index])
        if index in shown:
            thumbnails.append(shrink(160)(picture))

    try:
        with progress_bar(there + length, "frames") as bar, ThreadPoolExecutor(1) as writer:
            if there:
                go_backwards(video, passes, spilled, bar.increment)
            waiting: list[Future] = []
            for result in results(video, passes, spilled):
                waiting.append(writer.submit(write, *result))
                if len(waiting) > WAITING:
                    waiting.pop(0).result()
                bar.increment()
            for future in waiting:
                future.result()
        shutil.rmtree(output / "masks", ignore_errors=True)
        os.replace(masks, output / "masks")
        film.finish()
        numbers = [frame_text(index, video.names[index]) for index in sorted(shown)]
        rows, captions = (
            [cells[i : i + SHEET_COLUMNS] for i in range(0, len(cells), SHEET_COLUMNS)] for cells in (thumbnails, numbers)
        )
        write_picture(output / "sheet.png", sheet(rows, captions=captions))
    finally:
        with contextlib.suppress(OSError):
            film.container.close()
        film.partial.unlink(missing_ok=True)
        shutil.rmtree(spilled, ignore_errors=True)


def frame_text(index: int, name: str) -> str:
    """A frame's number, as `--mask` counts, and its name where that says something else."""
    return str(index) if name.isdecimal() and int(name) == index else f"{index} ({name})"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=DefaultsFormatter)
    result.add_argument("video", help="a video file, or a folder of frames")
    result.add_argument(
        "--mask",
        nargs="+",
        required=True,
        default=argparse.SUPPRESS,
        metavar="[FRAME:]FILE",
        help="masks, each with the number of its frame, counted from 0, which is also meant where none is given; as PNG: "
        "numbers of objects, white on black, or a plain colour for each object (required)",
    )
    result.add_argument("--fps", type=positive_float, default=24, help="frames a second of a folder of frames")
    result.add_argument("--overwrite", action="store_true", help="write into a folder that has results already")
    add_segmenter_flags(result, size=480, max_memory_frames=20)
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    digest(arguments.model)  # that it is there, before the video is looked through
    device = device_of(arguments.device)
    output = Path(arguments.output)
    if (output / "masks").exists() and not arguments.overwrite:
        raise InputError(f"{output}: holds results already; --overwrite replaces them")
    paths = parse_masks(arguments.mask)
    video = open_video(arguments.video, rate=Fraction(arguments.fps).limit_denominator(1001))
    if beyond := [frame for frame in paths if frame >= len(video.names)]:
        raise InputError(f"--mask {beyond[0]}: the frames of {arguments.video} are 0 to {len(video.names) - 1}")
    masks = GivenMasks().read_all(paths, video.size)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for path in (Path(arguments.video), *paths.values()):
        if path.resolve().is_relative_to((output / "masks").resolve()):
            raise InputError(f"{path}: lies where the results go; give another --output")
    make_folder(output)
    maker = segmenter_maker(arguments.model, device, compiled=arguments.compile, **segmenter_options(arguments))
    seconds = video.times[-1] - video.times[0]
    rate = Fraction(len(video.times) - 1) / seconds if seconds else Fraction(24)
    passes = Passes(maker, masks, video.size, shrink(arguments.size))
    segment(video, passes, output, rate=rate)
    for name in ("masks", "overlay.mp4", "sheet.png"):
        print(output / name)


if __name__ == "__main__":
    sys.exit(main())
