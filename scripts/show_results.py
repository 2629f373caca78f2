"""Draw some frames of each video with each result and, below, with the ground truth, as one picture (the paper's Figure 7).

python scripts/show_results.py --results out/davis17 --davis_path ../DAVIS/2017 --output results.png
python scripts/show_results.py --results out/stm out/stcn --davis_path ../DAVIS/2017 --videos blackswan
"""

import argparse
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from dataset.mask_reader import MaskReader
from evaluation.scores import result_folder
from evaluation.truth import add_truth_flags, read_truth
from util.errors import InputError, one_line_errors
from util.flags import Parser, positive_int
from util.picture import draw_mask, refuse_picture, sheet, write_picture


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument(
        "--results",
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders with <video>/<frame>.png",
    )
    add_truth_flags(result, required=False)
    result.add_argument("--frames", type=positive_int, default=6, metavar="N", help="number of evenly spaced frames per video")
    result.add_argument("--output", default="results.png", metavar="PNG", help="file to write")
    result.add_argument("--overwrite", action="store_true", help="replace a picture that is not ours")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    refuse_picture(arguments.output, overwrite=arguments.overwrite)
    folders = [Path(folder) for folder in arguments.results]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--results {folder}: no such folder")
    shared = os.path.commonpath([os.path.abspath(folder) for folder in folders])
    labels = ["result"] if len(folders) == 1 else [os.path.relpath(folder, shared) for folder in folders]
    videos = read_truth(arguments, scored=False).of(folders[0]).videos
    folders = [folder / "Annotations" if (folder / "Annotations").is_dir() else folder for folder in folders]
    rows, captions, names = [], [], []
    for video in videos:
        images = [path for path in video.images if path.stem in video.wanted]
        spaced = np.linspace(0, len(images) - 1, min(arguments.frames, len(images))).round().astype(int)
        chosen = [images[i] for i in dict.fromkeys(spaced)]
        sources: list[tuple[str, Mapping[str, Path], MaskReader | None]] = []
        for label, folder in zip(labels, folders, strict=True):
            place = result_folder(folder, video, alone=len(videos) == 1)
            results = {path.stem: place / f"{path.stem}.png" for path in chosen}
            sources.append((label, results, video.reader.of_results(results.values())))
        for source, masks, reader in (*sources, ("truth", video.truth, None)):
            if all(path.stem in masks for path in chosen):  # the truth is not always public
                read = partial(video.read_mask, reader=reader)
                rows.append([draw_mask(path, masks[path.stem], read) for path in chosen])
                captions.append([path.stem for path in chosen])
                names.append(f"{video.name}\n{source}")
    write_picture(arguments.output, sheet(rows, captions=captions, names=names))
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    sys.exit(main())
