"""Train the networks that Tables 1, 2, 7 and 8 compare, in small: all with the same short budget.

python -m scripts.experiments.networks --static_root ../static --davis_root ../DAVIS/2017 --yv_root none --iterations 400

Each has ResNet-18 in both encoders.  `<similarity>_<Ck>_s0.pth` and `stm_<similarity>_<Ck>_s0.pth` are trained on photographs
alone, `main_s3.pth` on videos alone, and `l2_64_s3.pth` on both.  A run that was stopped goes on.
"""

import subprocess
import sys
from pathlib import Path

from scripts.experiments.common import experiment_parser
from util.errors import InputError, one_line_errors
from util.flags import positive_int
from util.progress import progress_bar

ROOT = Path(__file__).parents[2]
SIMILARITIES = ("l2", "dot", "cosine")  # `cosine_scaled`, the other reading of section 3.2, with --only
CHANNELS = (64, 128)
STM = (("l2", 64), ("dot", 64), ("dot", 128))
SHORT = {  # as for the light network
    "key_backbone": "resnet18",
    "value_backbone": "resnet18",
    "value_dim": 128,
    "optimizer": "adamw",
    "lr": 5e-4,
    "encoder_lr": 1.5e-4,
    "schedule": "cosine",
    "clip_grad": 5,
    "bootstrap_start": 0,
    "bootstrap_end": 200,
    "num_workers": 1,
    "save_every": 100,
}


def parser():
    result = experiment_parser("networks", __doc__, data=False)
    for name in ("static_root", "davis_root", "yv_root"):
        result.add_argument(f"--{name}", default="none", metavar="DIR", help="as for train.py")
    result.add_argument("--iterations", type=positive_int, default=400, metavar="N", help="of each stage of each network")
    result.add_argument("--crop", type=positive_int, default=192, metavar="PIXELS", help="as for train.py")
    result.add_argument("--batch_size", type=positive_int, default=4, help="as for train.py")
    result.add_argument("--amp_dtype", choices=("float16", "bfloat16"), help="as for train.py")
    result.add_argument("--no_pretrained", action="store_true", help="start without ImageNet weights")
    result.add_argument("--device", default="auto", help="as for train.py")
    result.add_argument("--only", nargs="+", metavar="NAME", help="only these, as l2_64_s0 (default: all but cosine_scaled)")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    runs = {
        f"{kind}_{channels}_s0": ["--similarity", kind, "--key_dim", str(channels)]
        for channels in CHANNELS
        for kind in (*SIMILARITIES, "cosine_scaled")
    }
    runs |= {
        f"stm_{kind}_{channels}_s0": ["--arch", "stm", "--similarity", kind, "--key_dim", str(channels)]
        for kind, channels in STM
    }
    runs |= {"main_s3": [], "l2_64_s3": ["--load_network", f"{arguments.output}/l2_64_s0.pth"]}
    usual = [name for name in runs if not name.startswith("cosine_scaled")]
    if strange := sorted(set(arguments.only or ()) - runs.keys()):
        raise InputError(f"--only: expected some of {', '.join(runs)}, found {strange[0]}")
    names = ("static_root", "davis_root", "yv_root", "iterations", "crop", "batch_size", "device")
    numbers = SHORT | {name: getattr(arguments, name) for name in names}
    same = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    same += ["--save_dir", arguments.output, *(["--no_pretrained"] if arguments.no_pretrained else [])]
    same += ["--amp_dtype", arguments.amp_dtype] if arguments.amp_dtype else []
    chosen = {name: flags for name, flags in runs.items() if name in (arguments.only or usual)}
    with progress_bar(len(chosen), "networks") as bar:
        for name, flags in chosen.items():
            network, stage = name.rsplit("_s", 1)
            command = [sys.executable, str(ROOT / "train.py"), "--id", network, "--stage", stage, *same, *flags]
            if subprocess.run(command).returncode != 0:
                raise InputError(f"{name}: training failed")
            bar.increment()


if __name__ == "__main__":
    sys.exit(main())
