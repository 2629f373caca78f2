"""The command-line flags that scripts share, spelled as users of the paper's release know them."""

import argparse
import math
import os
from collections.abc import Callable
from typing import NamedTuple

SMALLEST_SIZE, LARGEST_SIZE = 16, 4096  # pixels, of the shorter side at which a network works
MOST_THREADS = 4 * (os.cpu_count() or 1)


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows each flag's default; where that is `None` the help says in words what it means."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def positive_int(text: str) -> int:
    """For argparse: an integer of at least 1."""
    return _int_from(1, text)


def non_negative_int(text: str) -> int:
    """For argparse: an integer of at least 0."""
    return _int_from(0, text)


def int_between(least: int, most: int) -> Callable[[str], int]:
    """For argparse: an integer from `least` to `most`."""
    return lambda text: _int_from(least, text, most)


def positive_float(text: str) -> float:
    """For argparse: a finite number above 0."""
    return _float(text, lambda value: 0 < value < math.inf, "above 0")


def float_between(least: float, most: float) -> Callable[[str], float]:
    """For argparse: a number from `least` to `most`."""
    return lambda text: _float(text, lambda value: least <= value <= most, f"from {least:g} to {most:g}")


def _float(text: str, fits: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected a number {expected}, found {text!r}")
    return value


def _int_from(least: int, text: str, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or (most is not None and value > most):
        expected = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise argparse.ArgumentTypeError(f"expected an integer {expected}, found {text!r}")
    return value


def count_or_all(text: str) -> int | None:
    """For argparse: `None` for 'all'."""
    return None if text == "all" else positive_int(text)


def add_segmenter_flags(
    parser: argparse.ArgumentParser, *, size: int | None, max_memory_frames: int | None, output_required: bool = True
) -> None:
    """What all scripts that segment videos share; `size` and `max_memory_frames` are defaults."""
    parser.add_argument(
        "--model", default="saves/stcn_light.pth", metavar="FILE", help="checkpoint, ours or one of the paper's release"
    )
    parser.add_argument(
        "--output",
        required=output_required,
        default=argparse.SUPPRESS if output_required else None,
        metavar="DIR",
        help=f"folder for the results{' (required)' if output_required else ''}",
    )
    parser.add_argument(
        "--top", type=count_or_all, default=20, metavar="K|all", help="memory positions read for each position"
    )
    parser.add_argument("--mem_every", type=positive_int, default=5, metavar="R", help="a frame becomes memory every R frames")
    parser.add_argument(
        "--include_last", action="store_true", help="let the previous frame be temporary memory (the paper advises not to)"
    )
    parser.add_argument(
        "--max_memory_frames",
        type=count_or_all,
        default="all" if max_memory_frames is None else max_memory_frames,
        metavar="N|all",
        help="remember at most so many frames: the least used is forgotten",
    )
    own = "" if size else " (default: the video's own)"
    parser.add_argument(
        "--size",
        type=int_between(SMALLEST_SIZE, LARGEST_SIZE),
        default=size,
        metavar="PIXELS",
        help=f"shorter side at which the network works, {SMALLEST_SIZE} to {LARGEST_SIZE}{own}",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision: float16 on CUDA, bfloat16 on the CPU")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network: slow to start, then faster")
    parser.add_argument(
        "--threads",
        type=int_between(1, MOST_THREADS),
        metavar="N",
        help=f"PyTorch threads on the CPU, at most {MOST_THREADS} (four per core) (default: PyTorch's own choice)",
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:N or mps; auto takes the best there is, torchrun gives each its GPU"
    )


def evaluation_parser(description: str, *, size: int | None) -> argparse.ArgumentParser:
    """A parser with the flags of both evaluation scripts, `size` the default of one; `--help` shows every default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=DefaultsFormatter)
    add_segmenter_flags(parser, size=size, max_memory_frames=None)
    parser.add_argument(
        "--num_workers", type=non_negative_int, default=2, metavar="N", help="threads that read frames ahead (0: none)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace results that another checkpoint or other flags have left in --output"
    )
    parser.add_argument("--zip", action="store_true", help="also write results.zip, which the benchmark's server takes")
    return parser


def segmenter_options(arguments: argparse.Namespace) -> dict[str, object]:
    """What `add_segmenter_flags` says of the segmenter, under the names that `VideoSegmenter` has for them."""
    return {
        "memory_every": arguments.mem_every,
        "top_k": arguments.top,
        "include_last": arguments.include_last,
        "max_memory_frames": arguments.max_memory_frames,
        "amp": arguments.amp,
    }


def run_options(arguments: argparse.Namespace) -> dict[str, object]:
    """What `evaluation_parser`'s flags say of the run, under the names that `run_benchmark` has for them."""
    return {
        "device": arguments.device,
        "overwrite": arguments.overwrite,
        "size": arguments.size,
        "workers": arguments.num_workers,
        "threads": arguments.threads,
    }


def add_data_flags(parser: argparse._ActionsContainer) -> None:
    """Where the training data lies."""
    parser.add_argument("--static_root", default="../static", metavar="DIR", help="stage 0: fss, DUTS-TR, ecssd, ... in it")
    parser.add_argument("--bl_root", default="../BL30K", metavar="DIR", help="stage 1: JPEGImages and Annotations in it")
    parser.add_argument("--yv_root", default="../YouTube", metavar="DIR", help="train_480p in it; 'none' goes without")
    parser.add_argument("--davis_root", default="../DAVIS/2017", metavar="DIR", help="trainval in it; 'none' goes without")


def add_crop_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--crop", type=positive_int, default=384, metavar="PIXELS", help="side of the training frames")


def data_roots(arguments: argparse.Namespace) -> dict[str, str | None]:
    """What `add_data_flags` adds, for `dataset.stages.stage_sources`."""
    names = ("static_root", "bl_root", "yv_root", "davis_root")
    return {name: None if getattr(arguments, name) == "none" else getattr(arguments, name) for name in names}


class Stage(NamedTuple):
    """The paper's numbers for one stage of training (sections 5, F.1 and F.4)."""

    iterations: int
    steps: tuple[int, ...]  # iterations at which the learning rate falls
    batch: int  # samples an iteration, over all processes
    skips: tuple[tuple[float, int], ...]  # from which share of the iterations on frames may lie how far apart


def _curriculum(last: float) -> tuple[tuple[float, int], ...]:
    return (0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (last, 5)


STAGES = (
    Stage(300_000, (150_000,), 16, ((0.0, 0),)),  # 0: static images; a photograph has no frames to skip
    Stage(500_000, (450_000,), 8, _curriculum(0.8)),  # 1: BL30K
    Stage(300_000, (250_000,), 8, _curriculum(0.9)),  # 2: YouTube-VOS and DAVIS, after BL30K
    Stage(150_000, (125_000,), 8, _curriculum(0.9)),  # 3: YouTube-VOS and DAVIS
)


def max_skip(stage: Stage, progress: float) -> int:
    """How many frames apart the frames of a sample may lie, when this share of the iterations is done."""
    return next(skip for start, skip in reversed(stage.skips) if progress >= start)
