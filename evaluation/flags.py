"""The flags of all scripts that segment videos, spelled as users of the paper's release know them."""

import argparse
import os
from typing import Any

from util.flags import DefaultsFormatter, count_or_all, int_between, positive_int, worker_count

SMALLEST_SIZE, LARGEST_SIZE = 16, 4096  # pixels, of the shorter side at which a network works
MOST_THREADS = 4 * (os.cpu_count() or 1)


def add_segmenter_flags(
    parser: argparse.ArgumentParser,
    *,
    size: int | None,
    max_memory_frames: int | None,
    output_required: bool = True,
    ensemble: bool = False,
) -> None:
    """What all scripts that segment videos share; `size` and `max_memory_frames` are defaults."""
    model, help_text = "saves/stcn_light.pth", "checkpoint, ours or one of the paper's release"
    if ensemble:
        help_text += "; of several the probabilities are averaged"
        parser.add_argument("--model", nargs="+", default=[model], metavar="FILE", help=help_text)
    else:
        parser.add_argument("--model", default=model, metavar="FILE", help=help_text)
    parser.add_argument(
        "--output",
        required=output_required,
        default=argparse.SUPPRESS if output_required else None,
        metavar="DIR",
        help=f"folder for the results{' (required)' if output_required else ''}",
    )
    parser.add_argument(
        "--top", type=count_or_all, default=20, metavar="K|all", help="number of memory positions that each position reads"
    )
    parser.add_argument(
        "--mem_every", type=positive_int, default=5, metavar="R", help="add a frame to the memory every R frames"
    )
    parser.add_argument(
        "--include_last",
        action="store_true",
        help="also use the previous frame as temporary memory (the paper advises against it)",
    )
    parser.add_argument(
        "--max_memory_frames",
        type=count_or_all,
        default="all" if max_memory_frames is None else max_memory_frames,
        metavar="N|all",
        help="largest number of memory frames; the least used frame is dropped",
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
    parser.add_argument(
        "--compile", action="store_true", help="compile the network with torch.compile: starts slowly, then runs faster"
    )
    parser.add_argument(
        "--threads",
        type=int_between(1, MOST_THREADS),
        metavar="N",
        help=f"PyTorch threads on the CPU, at most {MOST_THREADS} (four per core) (default: PyTorch's own choice)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:N or mps; auto picks the best available, torchrun gives each process its GPU",
    )


def evaluation_parser(description: str, *, size: int | None) -> argparse.ArgumentParser:
    """A parser with the flags of both evaluation scripts, `size` the default of one; `--help` shows every default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=DefaultsFormatter)
    add_segmenter_flags(parser, size=size, max_memory_frames=None, ensemble=True)
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int_between(SMALLEST_SIZE, LARGEST_SIZE),
        metavar="PIXELS",
        help="several sizes in place of --size, whose probabilities are averaged (default: --size alone)",
    )
    parser.add_argument("--flip", action="store_true", help="average with what the flipped frames give")
    parser.add_argument(
        "--kernel",
        nargs="?",
        choices=("none", "large", "all"),
        default="none",
        const="large",
        help="read the memory with a Gaussian around each best match: at sizes above 480 (large, as in the paper), at all",
    )
    parser.add_argument(
        "--num_workers", type=worker_count, default=2, metavar="N", help="threads that read frames ahead (0: none)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results in --output that were made with another checkpoint or other flags",
    )
    parser.add_argument("--zip", action="store_true", help="also write results.zip for the benchmark server")
    return parser


def segmenter_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_segmenter_flags` says of the segmenter, under the names that `VideoSegmenter` has for them."""
    return {
        "size": arguments.size,
        "memory_every": arguments.mem_every,
        "top_k": arguments.top,
        "include_last": arguments.include_last,
        "max_memory_frames": arguments.max_memory_frames,
        "amp": arguments.amp,
    }


def run_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `evaluation_parser`'s flags say of the run, under the names that `run_benchmark` has for them."""
    return {
        "models": arguments.model,
        "segmenter": segmenter_options(arguments),
        "sizes": arguments.sizes,
        "flip": arguments.flip,
        "kernel": arguments.kernel,
        "compiled": arguments.compile,
        "device": arguments.device,
        "overwrite": arguments.overwrite,
        "zipped": arguments.zip,
        "workers": arguments.num_workers,
        "threads": arguments.threads,
    }
