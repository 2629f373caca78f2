"""The flags that scripts which segment videos share, named as in the paper's release.  PyTorch is not imported for them."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

from dataset.video_names import add_videos_flags
from evaluation.results import RUN_RECORD
from util.errors import InputError, print_note
from util.files import read_json
from util.flags import Parser, count_or_all, int_between, positive_int, worker_count

SMALLEST_SIZE, LARGEST_SIZE = 16, 4096  # pixels, shorter side at which the network works
SCRIBBLE_MODEL = "saves/stcn_scribble.pth"
MOST_THREADS = 4 * (os.cpu_count() or 1)


def add_segmenter_flags(
    parser: argparse.ArgumentParser,
    *,
    size: int | None = None,
    max_memory_frames: int | None = None,
    output_required: bool = True,
    benchmark: bool = False,
) -> None:
    """Add the flags that all scripts that segment videos share.

    `size` and `max_memory_frames` are defaults; for a `benchmark`, `--model` takes several.
    """
    model, help_text = "saves/stcn_light.pth", "checkpoint, ours or one from the paper's release"
    amp = "where the hardware has it"
    if benchmark:
        help_text += "; the probabilities of several are averaged"
        amp += ", but not with the paper's network, whose results are compared"
        parser.add_argument("--model", nargs="+", default=[model], metavar="FILE", help=help_text)
    else:
        parser.add_argument("--model", default=model, metavar="FILE", help=help_text)
    parser.add_argument(
        "--output",
        required=output_required,
        metavar="DIR",
        help=f"folder for the results{' (required)' if output_required else ''}",
    )
    parser.add_argument(
        "--top", type=count_or_all, default=20, metavar="K|all", help="memory positions that each query position reads"
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
        help="maximum number of memory frames; beyond it, the least used frame is dropped",
    )
    parser.add_argument(
        "--roi",
        action="store_true",
        help="decode objects only where the memory says that they can be: faster on a CPU, and labels differ a little",
    )
    own = "" if size else " (default: the video's own)"
    parser.add_argument(
        "--size",
        type=int_between(SMALLEST_SIZE, LARGEST_SIZE),
        default=size,
        metavar="PIXELS",
        help=f"shorter side at which the network works, {SMALLEST_SIZE} to {LARGEST_SIZE}{own}",
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        choices=("auto", "on", "off"),
        const="on",
        default="auto",
        help=f"run the network in float16 on CUDA, bfloat16 on the CPU; auto: {amp}",
    )
    parser.add_argument(
        "--tune",
        choices=("on", "off"),
        default="on",
        help="measure once whether Winograd's algorithm is faster on this machine, and record it with the results; "
        "off: use it always",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the network with torch.compile: slower start, then faster"
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
        help="cpu, cuda, cuda:N or mps; auto is CUDA, or else the CPU; torchrun gives each process its GPU",
    )


def add_scribble_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag for what `evaluation.cut.cut_by` takes."""
    parser.add_argument(
        "--scribble_model",
        "--click_model",
        default=SCRIBBLE_MODEL,
        metavar="PATH",
        help="makes masks of clicks, boxes and scribbles: a checkpoint, a folder with the encoder and decoder of SAM, "
        "MobileSAM or EfficientSAM as ONNX files, or 'none' for GrabCut, which annotate.py takes if the default is missing",
    )


def add_check_memory_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check_memory",
        choices=("on", "off"),
        default="on",
        help="refuse a video that needs more memory than is available, by an estimate; off: try it all the same",
    )


def add_robot_flags(
    parser: argparse.ArgumentParser, *, own: bool = False, size: int | None = None, max_memory_frames: int | None = None
) -> None:
    """Add the flags of scripts in which a robot corrects results on DAVIS or, with `own`, on one's own videos; with those of
    `add_segmenter_flags`.
    """
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--davis_path", default="../DAVIS/2017", metavar="DIR", help="DAVIS val, as for eval_davis.py")
    if own:
        data.add_argument("--path", metavar="DIR", help="JPEGImages/ and Annotations/ of videos with a mask of every frame")
    add_videos_flags(parser)
    add_scribble_flag(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace what other settings have left in --output")
    add_segmenter_flags(parser, size=size, max_memory_frames=max_memory_frames)


def note_enlarged(arguments: argparse.Namespace, size: tuple[int, int], usual: int) -> None:
    """Tell the user of a video (H, W) that is enlarged since `--size` has its default, `usual`."""
    if arguments.size == usual > min(size):
        print_note(f"frames are enlarged from {min(size)} to {usual} pixels on the shorter side; --size {min(size)} is faster")


def evaluation_parser(doc: str | None, *, size: int | None) -> argparse.ArgumentParser:
    """A parser with the flags that both evaluation scripts share; `size` is the default of `--size`."""
    parser = Parser(doc)
    add_segmenter_flags(parser, size=size, benchmark=True)
    add_check_memory_flag(parser)
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int_between(SMALLEST_SIZE, LARGEST_SIZE),
        metavar="PIXELS",
        help="several sizes instead of --size; their probabilities are averaged (default: --size alone)",
    )
    parser.add_argument("--flip", action="store_true", help="average with the results of the flipped frames")
    parser.add_argument(
        "--kernel",
        nargs="?",
        choices=("none", "large", "all"),
        default="none",
        const="large",
        help="read the memory with a Gaussian around each best match: at sizes above 480 (large, as in the paper), or at all",
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
    """The values of `add_segmenter_flags` as options of `VideoSegmenter`; raises `InputError` if they exclude each other."""
    if arguments.roi and arguments.compile:
        raise InputError("--roi: expected without --compile, which would compile for each size of a region")
    return {
        "size": arguments.size,
        "memory_every": arguments.mem_every,
        "top_k": arguments.top,
        "include_last": arguments.include_last,
        "max_memory_frames": arguments.max_memory_frames,
        **({"roi": True} if arguments.roi else {}),  # so that records from before this flag still match
    }


def network_options(arguments: argparse.Namespace, *records: Path) -> dict[str, Any]:
    """The options of `STCN.for_inference` that these flags set, except `amp`.

    records: JSON files in which earlier runs whose results are continued may have written their `settings`.  With
             `--tune on`, the first that tells how they chose (`winograd`) decides, so that the bits stay the same.
    """
    return {"winograd": recorded_winograd(*records) if arguments.tune == "on" else True, "compiled": arguments.compile}


def recorded_winograd(*records: Path) -> bool | None:
    """`winograd` in the `settings` of the first of these JSON files that has it; `None` if none does."""
    for path in filter(Path.is_file, records):
        with contextlib.suppress(InputError):  # whoever goes on from it will say so
            found = read_json(path)
            settings = found.get("settings") if isinstance(found, dict) else None
            if isinstance(settings, dict) and isinstance(settings.get("winograd"), bool):
                return settings["winograd"]
    return None


def run_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of `evaluation_parser`'s flags as arguments of `run_benchmark`."""
    return {
        "models": arguments.model,
        "segmenter": segmenter_options(arguments),
        "network": network_options(arguments, *([] if arguments.overwrite else [Path(arguments.output, RUN_RECORD)])),
        "amp": arguments.amp,
        "sizes": arguments.sizes,
        "flip": arguments.flip,
        "kernel": arguments.kernel,
        "device": arguments.device,
        "overwrite": arguments.overwrite,
        "zipped": arguments.zip,
        "workers": arguments.num_workers,
        "check_memory": arguments.check_memory == "on",
        "threads": arguments.threads,
    }
