"""Make docs/example.webp: videos of DAVIS, each followed from its first mask, side by side as one moving picture.

python scripts/dev/make_example.py --davis_path ../DAVIS/2016 --videos soapbox libby
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import util  # isort: skip, since it comes before PyTorch  # noqa: F401
import numpy as np
from PIL import Image

from dataset.davis import davis_videos
from dataset.video import Video
from dataset.video_names import add_videos_flags
from model import STCN, VideoSegmenter, load_for_inference
from util.errors import InputError, one_line_errors
from util.files import write_atomically
from util.flags import Parser, positive_int
from util.picture import overlay, sheet

HEIGHT, QUALITY = 240, 60
SHOWN_EVERY = 2  # of the frames, of which DAVIS has 24 a second
FIRST, OTHERS = 1000, 83  # milliseconds for which a picture is shown; the first one holds the given masks
LARGEST = 2 * 2**20  # bytes


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("--davis_path", default="../DAVIS/2016", metavar="DIR", help="DAVIS, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2016, help="year of DAVIS")
    add_videos_flags(result)  # from left to right
    result.add_argument("--frames", type=positive_int, default=60, metavar="N", help="frames of each video, at most")
    result.add_argument("--model", default="saves/stcn_light.pth", metavar="FILE", help="checkpoint")
    result.add_argument("--output", default="docs/example.webp", metavar="WEBP", help="file to write")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    network = load_for_inference(arguments.model)
    videos = davis_videos(arguments.davis_path, year=arguments.year, only=arguments.videos)
    drawn = [islice(followed(video, network), 0, arguments.frames, SHOWN_EVERY) for video in videos]
    first, *others = (Image.fromarray(sheet([row], height=HEIGHT)) for row in zip(*drawn, strict=False))  # to the shortest
    durations = [FIRST, *[OTHERS] * len(others)]
    options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0, "quality": QUALITY, "method": 6}
    write_atomically(arguments.output, lambda file: first.save(file, format="WEBP", **options))
    size = Path(arguments.output).stat().st_size
    print(f"{arguments.output}: {len(durations)} pictures, {size / 2**20:.1f} MiB")
    if size > LARGEST:
        raise InputError(f"{arguments.output}: expected at most {LARGEST} bytes, found {size}; give fewer --frames")


def followed(video: Video, network: STCN) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 with their objects tinted, given in the first one and found in the others."""
    segmenter = VideoSegmenter(network)
    for frame in video.frames():
        probabilities = segmenter.step(frame.image, frame.mask)
        assert probabilities is not None  # every frame is wanted
        yield overlay(frame.image, segmenter.to_labels(probabilities).numpy())


if __name__ == "__main__":
    sys.exit(main())
