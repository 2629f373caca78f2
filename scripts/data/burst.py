"""Make masks of BURST's annotations for `--layout burst`, and of results the JSON file that BURST's own tool scores.

    python scripts/data/burst.py masks ../BURST --split val
    python scripts/data/burst.py results ../BURST --split val --results out/burst --output out/burst.json

`masks` reads annotations/<split>/all_classes.json and writes masks/<split>/<dataset>/<video>/<frame>.png beside it.
"""

import argparse
import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dataset.layouts import LAYOUTS
from dataset.mask_files import in_front
from dataset.mask_reader import MaskReader
from dataset.shapes import LAYOUT_ERRORS, decode_rle, encode_rle, picture_size
from util.errors import InputError, one_line_errors, shorten
from util.files import read_json, write_text
from util.flags import Parser
from util.guards import path_in, refuse_existing
from util.image import refuse_other_size
from util.label_map import MOST_OBJECTS, colour_map, write_label_map
from util.progress import progress_bar


class Annotated:
    """A video's annotations."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry  # as in the file
        self.name = str(entry["dataset"]), str(entry["seq_name"])
        self.frames = [PurePosixPath(name).stem for name in entry["annotated_image_paths"]]
        self.masks = [{track: mask["rle"] for track, mask in of.items()} for of in entry["segmentations"]]  # by track
        tracks = sorted({track for of in self.masks for track in of}, key=int)
        if len(self.frames) != len(self.masks) or len(tracks) > MOST_OBJECTS:
            found = f"{len(self.masks)} for {len(self.frames)} frames and {len(tracks)} tracks"
            raise InputError(f"expected masks of each frame, of at most {MOST_OBJECTS} tracks, found {found}")
        self.size = picture_size(entry["height"], entry["width"])
        self.numbers = {track: number for number, track in enumerate(tracks, start=1)}  # labels of the tracks


def sequences(content: Any, path: Path) -> list[Annotated]:
    """The videos of a file in BURST's format; raises `InputError` if it is none."""
    try:
        return [Annotated(entry) for entry in content["sequences"]]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except LAYOUT_ERRORS as error:
        raise InputError(f"{path}: expected annotations of BURST, found another layout ({shorten(error)})") from error


def write_masks(every: list[Annotated], folder: Path, source: Path) -> None:
    """Write a label map for each annotated frame; where masks overlap, the smaller one is in front."""
    with progress_bar(len(every), "videos written") as bar:
        for video in every:
            for frame, masks in zip(video.frames, video.masks, strict=True):
                layers = {
                    number: decode_rle({"size": video.size, "counts": masks[track]})
                    for track, number in video.numbers.items()
                    if track in masks
                }
                labels = in_front(layers) if layers else np.zeros(video.size, np.uint8)
                write_label_map(path_in(folder, *video.name, f"{frame}.png", source=source), labels, colour_map())
            bar.increment()


def predictions(every: list[Annotated], folder: Path, source: Path) -> list[dict[str, Any]]:
    """The sequences with the masks of results in place of their own; of an object that was not found, there is no mask."""
    found = []
    with progress_bar(len(every), "videos read") as bar:
        for video in every:
            segmentations = []
            paths = [path_in(folder, *video.name, f"{frame}.png", source=source) for frame in video.frames]
            reader = MaskReader.of(paths, drawn=False)
            if reader.known.own and len(video.numbers) > 1:
                raise InputError(f"{paths[0].parent}: results have colours of their own; save the numbers of the objects")
            for path in paths:
                labels = reader.read(path)
                refuse_other_size(path, labels.shape, video.size, other="its video")
                shown = {track: labels == number for track, number in video.numbers.items()}
                segmentations.append({track: {"rle": encode_rle(mask)} for track, mask in shown.items() if mask.any()})
            found.append({**video.entry, "segmentations": segmentations})
            bar.increment()
    return found


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("what", choices=("masks", "results"), help="what to convert")
    result.add_argument("path", metavar="DIR", help="folder of BURST, with annotations/ and frames/")
    result.add_argument("--split", choices=LAYOUTS["burst"].splits, default="val", help="set of videos")
    result.add_argument("--results", metavar="DIR", help="folder with <dataset>/<video>/<frame>.png of eval_youtube.py")
    result.add_argument("--output", metavar="JSON", help="file to write the results to")
    result.add_argument("--overwrite", action="store_true", help="replace that file")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    if (arguments.what == "results") != bool(arguments.results and arguments.output):
        raise InputError("results: expected --results and --output, which masks has not")
    root = Path(arguments.path)
    source = root / "annotations" / arguments.split / "all_classes.json"
    if arguments.output:
        refuse_existing(arguments.output, overwrite=arguments.overwrite, inputs=[source])
    content = read_json(source)
    every = sequences(content, source)
    if arguments.what == "masks":
        folder = root / LAYOUTS["burst"].masks.format(split=arguments.split)
        write_masks(every, folder, source)
        print(f"masks: {folder}")
    else:
        text = json.dumps({**content, "sequences": predictions(every, Path(arguments.results), source)})
        print(f"results: {write_text(Path(arguments.output), text)}")


if __name__ == "__main__":
    sys.exit(main())
