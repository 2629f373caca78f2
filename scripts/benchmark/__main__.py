"""Measure what the project does; it reports and judges nothing.

python -m scripts.benchmark --parts --size 480x854 --objects 3 --memory 40
python -m scripts.benchmark --video --size 480x854 --objects 5 --late 2 --frames 50 --repeats 1
python -m scripts.benchmark --training --objects 2 --batch 4 --amp
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from dataset.sources import add_crop_flag
from model import STCN, load_for_inference, load_network, save_network
from scripts.benchmark.made_up import STRIPES
from scripts.benchmark.parts import measure_parts, measure_training
from scripts.benchmark.videos import PARTS, VideoJob, measure_long_video, measure_video
from util.device import device_of, use_threads
from util.errors import InputError, one_line_errors
from util.flags import Parser, non_negative_int, positive_int


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__, prog="python -m scripts.benchmark")
    what = result.add_argument_group("what is measured").add_mutually_exclusive_group(required=True)
    what.add_argument("--parts", action="store_true", help="time of each part of a frame")
    what.add_argument("--video", action="store_true", help="time a whole synthetic video, ours and the plain version")
    what.add_argument("--long", action="store_true", help="time and memory over a long video")
    what.add_argument("--training", action="store_true", help="time and memory of training steps")
    result.add_argument(
        "--repeats", type=positive_int, default=20, help="repetitions of each measurement; medians are printed"
    )
    result.add_argument("--model", metavar="FILE", help="checkpoint (default: the paper's network with random weights)")
    result.add_argument("--size", type=size_of, default="480x854", metavar="HxW", help="frame size in pixels")
    result.add_argument("--frames", type=positive_int, default=50, help="number of frames")
    result.add_argument("--objects", type=positive_int, default=1, help="number of objects")
    result.add_argument("--late", type=non_negative_int, default=0, help="number of objects that enter halfway")
    result.add_argument("--memory", type=positive_int, default=10, help="synthetic memory frames for --parts")
    result.add_argument("--max_memory_frames", type=positive_int, help="for --long and --video (default: no bound)")
    result.add_argument("--amp", action="store_true", help="half precision")
    result.add_argument("--batch", type=positive_int, default=4, help="for --training")
    result.add_argument("--output", metavar="PNG", help="plot of --long (default: none)")
    result.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps")
    result.add_argument("--threads", type=positive_int, help="PyTorch threads on the CPU")
    add_crop_flag(result)
    return result


def size_of(text: str) -> tuple[int, int]:
    """For argparse: HEIGHTxWIDTH."""
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        height = width = 0
    if min(height, width) < 16:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH of at least 16x16, found {text!r}")
    return height, width


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    device, repeats, size = device_of(arguments.device), arguments.repeats, arguments.size
    if arguments.objects > STRIPES[-1]:
        raise InputError(f"--objects: expected at most {STRIPES[-1]}, found {arguments.objects}")
    if arguments.late and arguments.late >= arguments.objects:
        raise InputError(f"--late: expected fewer than --objects {arguments.objects}, found {arguments.late}")
    if arguments.long and arguments.frames < PARTS:
        raise InputError(f"--frames: expected at least {PARTS}, found {arguments.frames}")
    if arguments.output and not arguments.long:
        raise InputError("--output: goes with --long, which draws a plot")
    if arguments.max_memory_frames and not (arguments.long or arguments.video):
        raise InputError("--max_memory_frames: goes with --long or --video")
    use_threads(arguments.threads)
    if arguments.training:
        network = load_network(arguments.model) if arguments.model else STCN()
        shape = {"crop": arguments.crop, "batch": arguments.batch, "objects": arguments.objects}
        print(measure_training(network, **shape, repeats=repeats, half=arguments.amp, device=device))
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = arguments.model or _untrained(Path(folder))
            if arguments.video and (arch := load_network(model).config.arch) != "stcn":
                raise InputError(f"{model}: expected an STCN, whose formulas --video compares with, found {arch}")
            if arguments.parts:
                network = load_for_inference(model, device, amp=arguments.amp, winograd=None)
                shape = {"size": size, "objects": arguments.objects, "memory": arguments.memory}
                print(measure_parts(network, **shape, repeats=repeats))
                return
            same = ("frames", "objects", "late", "max_memory_frames", "amp", "threads")
            options = {name: getattr(arguments, name) for name in same}
            job = VideoJob(way="ours", model=str(model), size=size, device=str(device), **options)
            if arguments.video:
                print(measure_video(job, repeats=repeats))
            else:
                print(measure_long_video(job, arguments.output and Path(arguments.output)))


def _untrained(folder: Path) -> Path:
    torch.manual_seed(0)
    save_network(STCN(), folder / "untrained.pth")
    return folder / "untrained.pth"


if __name__ == "__main__":
    sys.exit(main())
