"""Convert a checkpoint between our format and the paper's release.

python scripts/convert_weights.py stcn.pth ours.pth                    # either format -> ours
python scripts/convert_weights.py ours.pth stcn.pth --to released      # either format -> a plain file like the release's
"""

import argparse
import dataclasses
import sys

import util  # isort: skip, must come before PyTorch  # noqa: F401
import torch

from model import NetworkConfig, load_network, save_network
from model.checkpoint import halved
from model.released import to_released
from util.errors import InputError, one_line_errors
from util.files import write_atomically
from util.flags import Parser
from util.guards import refuse_existing


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("source", help="checkpoint to read: ours, released, or a released training checkpoint")
    result.add_argument("target", help="file to write")
    result.add_argument("--to", choices=("ours", "released"), default="ours", help="format to write (default: ours)")
    result.add_argument("--half", action="store_true", help="write float16, which halves the file size; it is read as float32")
    result.add_argument("--overwrite", action="store_true", help="replace the target if it exists")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    refuse_existing(arguments.target, overwrite=arguments.overwrite, inputs=[arguments.source])
    network = load_network(arguments.source)
    if arguments.to == "ours":
        save_network(network, arguments.target, half=arguments.half)
    else:
        if dataclasses.replace(network.config, attention=True) != NetworkConfig():
            raise InputError(f"{arguments.source}: released files hold {NetworkConfig()}, found {network.config}")
        state = to_released(network.state_dict())
        released = halved(state, arguments.target) if arguments.half else state
        write_atomically(arguments.target, lambda file: torch.save(released, file))
    print(arguments.target)


if __name__ == "__main__":
    sys.exit(main())
