"""Table 2: the operations and the size of the keys by similarity, which need no network.

python -m scripts.experiments.costs

The paper's figures are for frames of 480x854 pixels and T = 10.  Its GFLOP are of 2^30 operations, two for a multiplication
and addition, and its MB of 2^20 bytes, of the keys of T + 1 frames.  L2 has three more for each pair of positions there
(equation 5 with all three terms).  Here L2 is one product of Ck + 1 channels; PyTorch counts the operations.
"""

import argparse
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluation.tables import Row, report
from model.similarity import similarity
from scripts.experiments.common import experiment_parser
from util.errors import one_line_errors
from util.flags import positive_int
from util.tensors import STRIDE

HEIGHT, WIDTH = 480, 854
GIGA, MEGA = 2**30, 2**20  # as the paper's figures turn out to be


def parser() -> argparse.ArgumentParser:
    result = experiment_parser("costs", __doc__, data=False)
    result.add_argument("--memory", type=positive_int, default=10, metavar="T", help="memory frames")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    rows = [costs(kind, channels, arguments.memory) for channels in (128, 64) for kind in ("dot", "cosine", "l2")]
    report(arguments.output, "costs", f"Table 2: operations, and keys of 480p, at T = {arguments.memory}", rows)


def costs(kind: str, channels: int, memory: int) -> Row:
    """Operations of one query frame's similarities, by the paper's count and as done here, and the size of the keys."""
    positions = -(-HEIGHT // STRIDE) * -(-WIDTH // STRIDE)
    pairs = memory * positions**2
    paper = 2 * channels * pairs + (3 * pairs if kind == "l2" else 0)
    with FlopCounterMode(display=False) as counter:
        similarity(torch.zeros(1, memory * positions, channels), torch.zeros(1, positions, channels), kind)
    return {
        "similarity": kind,
        "Ck": channels,
        "GFLOP, the paper's count": paper / GIGA,
        "GFLOP here": counter.get_total_flops() / GIGA,
        "keys, MB": 4 * channels * (memory + 1) * positions / MEGA,
    }


if __name__ == "__main__":
    sys.exit(main())
