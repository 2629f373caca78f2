"""Draw the training samples of a stage, with their objects tinted, as one picture.

python scripts/show_samples.py --stage 0 --static_root ../static --output samples.png
"""

import argparse
import sys

from dataset.clip import FRAMES
from dataset.sampling import Draws
from dataset.sources import add_crop_flag, add_data_flags, add_sampling_flags, data_roots, sampling_options, stage_sources
from dataset.stages import STAGES, max_skip
from util.errors import one_line_errors
from util.flags import Parser, positive_int, seed_int
from util.picture import overlay, refuse_picture, sheet, write_picture

COLUMNS = 3


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("--stage", type=int, choices=range(len(STAGES)), default=0, help="stage whose samples are drawn")
    result.add_argument("--output", default="samples.png", metavar="PNG", help="file to write")
    result.add_argument("--overwrite", action="store_true", help="replace a picture that is not ours")
    result.add_argument("--samples", type=positive_int, default=12, metavar="N", help="number of samples to draw")
    result.add_argument("--seed", type=seed_int, default=0, help="random seed of the samples")
    add_data_flags(result)
    add_sampling_flags(result)
    add_crop_flag(result)
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    refuse_picture(arguments.output, overwrite=arguments.overwrite)
    skip = max_skip(STAGES[arguments.stage], 0.4)  # where the curriculum has the largest
    sources = stage_sources(arguments.stage, data_roots(arguments), **sampling_options(arguments), crop=arguments.crop)
    draws = Draws(sources, seed=arguments.seed, max_skip=skip)
    clips = [draws[draw] for draw in range(arguments.samples)]
    numbered = list(enumerate(clips, start=1))
    parts = [numbered[i : i + COLUMNS] for i in range(0, len(clips), COLUMNS)]
    rows = [[overlay(*pair) for _, clip in part for pair in zip(clip.frames, clip.labels, strict=True)] for part in parts]
    captions = [[text for number, _ in part for text in (str(number), *[""] * (FRAMES - 1))] for part in parts]
    write_picture(arguments.output, sheet(rows, captions=captions))
    for number, clip in numbered:
        print(f"{number}: {clip.name}")
    print(arguments.output)


if __name__ == "__main__":
    sys.exit(main())
