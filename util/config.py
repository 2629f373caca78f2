"""The command-line flags that scripts share, spelled as users of the paper's release know them."""

import argparse


def positive_int(text: str) -> int:
    """For argparse: an integer of at least 1."""
    return _int_from(1, text)


def non_negative_int(text: str) -> int:
    """For argparse: an integer of at least 0."""
    return _int_from(0, text)


def _int_from(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, found {text!r}")
    return value


def evaluation_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of both evaluation scripts; `--help` shows every default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--model", default="saves/stcn.pth", metavar="FILE", help="checkpoint, ours or one of the paper's release"
    )
    parser.add_argument(
        "--output", required=True, default=argparse.SUPPRESS, metavar="DIR", help="folder for the masks and scores (required)"
    )
    parser.add_argument("--top", type=positive_int, default=20, metavar="K", help="memory positions read for each position")
    parser.add_argument("--mem_every", type=positive_int, default=5, metavar="R", help="a frame becomes memory every R frames")
    parser.add_argument(
        "--include_last", action="store_true", help="let the previous frame be temporary memory (the paper advises not to)"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision: float16 on CUDA, bfloat16 on the CPU")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:N or mps; auto takes the best there is, torchrun gives each its GPU"
    )
    parser.add_argument(
        "--num_workers", type=non_negative_int, default=2, metavar="N", help="threads that read frames ahead (0: none)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace results that another checkpoint or other flags have left in --output"
    )
    parser.add_argument("--zip", action="store_true", help="also write results.zip, which the benchmark's server takes")
    return parser


def segmenter_options(arguments: argparse.Namespace) -> dict[str, object]:
    """What `evaluation_parser`'s flags say of the segmenter, under the names that `VideoSegmenter` has for them."""
    return {
        "memory_every": arguments.mem_every,
        "top_k": arguments.top,
        "include_last": arguments.include_last,
        "amp": arguments.amp,
    }
