"""Tables 2, 3, 4 and 7: networks side by side, with their J&F, and the operations and the size of the keys by similarity.

python -m scripts.experiments.compare --model saves/l2_64.pth saves/dot_64.pth --davis_path ../DAVIS/2017
python -m scripts.experiments.compare --no_scores    # the operations and sizes alone, which need no network

The paper's figures are for frames of 480x854 pixels and T = 10.  Its GFLOP are of 2^30 operations, two for a multiplication
and addition, and its MB of 2^20 bytes, of the keys of T + 1 frames.  L2 has three more for each pair of positions there
(equation 5 with all three terms).  Here L2 is one product of Ck + 1 channels; PyTorch counts the operations.
"""

import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluation.tables import Row, report
from model.similarity import SIMILARITIES, similarity
from scripts.experiments.common import experiment_parser, labels_of, network_of, score, videos_of
from util.errors import one_line_errors
from util.flags import positive_int
from util.tensors import STRIDE

HEIGHT, WIDTH = 480, 854
GIGA, MEGA = 2**30, 2**20  # as the paper's figures turn out to be


def parser():
    result = experiment_parser("compare", __doc__)
    result.add_argument("--memory", type=positive_int, default=10, metavar="T", help="memory frames")
    result.add_argument("--no_scores", action="store_true", help="leave the networks out: operations and sizes alone")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    rows: list[Row] = []
    if arguments.no_scores:
        rows = [costs(kind, channels, arguments.memory) for channels in (128, 64) for kind in SIMILARITIES]
    else:
        videos, folder = videos_of(arguments), Path(arguments.output)
        for model, label in labels_of(arguments.model).items():
            config = network_of(model, arguments).config
            found = score(model, videos, folder / label, arguments)
            rows.append({"network": label, **costs(config.similarity, config.key_dim, arguments.memory), **found})
    report(arguments.output, "compare", f"networks side by side; keys of 480p and T = {arguments.memory}", rows)


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
