"""Write a checkpoint's network as ONNX files, for ONNX Runtime and other engines (docs/onnx.md).

python scripts/export_onnx.py --output out/onnx
python scripts/export_onnx.py --model saves/stcn.pth --output out/onnx
python scripts/export_onnx.py --int8 ../own --output out/int8
"""

import argparse
import sys
import tempfile
from pathlib import Path

import util  # isort: skip, since it comes before PyTorch  # noqa: F401

from dataset.video import Video
from dataset.youtube import youtube_videos
from model.int8 import Clip, quantise
from model.onnx import OPSET, OPSETS, PARTS, SHAPES, export_onnx
from util.device import use_threads
from util.errors import InputError, one_line_errors
from util.flags import Parser, int_between
from util.guards import refuse_file_above
from util.progress import progress_bar

MOST_VIDEOS, SEEN, APART = 20, 5, 6  # videos and frames of each by which int8 is calibrated, and how far these are apart


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument(
        "--model", default="saves/stcn_light.pth", metavar="FILE", help="checkpoint, ours or one of the paper's release"
    )
    result.add_argument("--output", required=True, metavar="FOLDER", help="where the three files go")
    result.add_argument("--opset", type=int_between(OPSETS[0], OPSETS[-1]), default=OPSET, help="version of ONNX's operators")
    result.add_argument(
        "--int8", metavar="DIR", help="in int8, calibrated on the videos in DIR/JPEGImages with masks in DIR/Annotations"
    )
    return result


def clip_of(video: Video) -> Clip:
    """A few frames from a video's first mask on."""
    first = _first_mask(video)
    from_the_mask = (frame for index, frame in enumerate(video.frames()) if index >= first)
    for number, frame in enumerate(from_the_mask):
        if number % APART == 0 or frame.mask is not None:
            yield frame.image, frame.mask
        if number == (SEEN - 1) * APART:
            return


def _first_mask(video: Video) -> int:
    """The number of the first frame with a mask."""
    return next(index for index, path in enumerate(video.images) if path.stem in video.masks)


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    if arguments.int8 is None:
        paths = export_onnx(arguments.model, arguments.output, opset=arguments.opset)
    else:
        use_threads(None)
        videos = [video for video in youtube_videos(arguments.int8) if _first_mask(video) + 1 < len(video.images)]
        if not videos:
            raise InputError(f"{arguments.int8}: expected a video with a frame after its first mask, found none")
        videos = videos[:: -(-len(videos) // MOST_VIDEOS)]
        refuse_file_above(Path(arguments.output))
        with tempfile.TemporaryDirectory() as folder:
            export_onnx(arguments.model, folder, opset=arguments.opset)
            with progress_bar(len(videos) + len(PARTS), "videos and files") as bar:
                paths = quantise(folder, map(clip_of, videos), arguments.output, bar.increment)
    for path in paths:
        inputs, outputs = (
            ", ".join(f"{name} ({SHAPES[name].replace(' ', ', ')})" for name in names) for names in PARTS[path.stem]
        )
        print(f"{path}: {inputs} -> {outputs}")


if __name__ == "__main__":
    sys.exit(main())
