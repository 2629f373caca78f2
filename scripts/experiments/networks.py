"""Train the networks that the paper's claims compare, in small: all by the same short recipe.

python -m scripts.experiments.networks --static_root ../static --davis_root ../DAVIS/2017 --yv_root none --seeds 0 1 2

Each has ResNet-18 in both encoders.  `seed<n>/<network>_s0.pth` was trained on photographs, `<network>_s3.pth` then on videos;
`main_s3.pth` on videos alone.  A network that is there is kept, and a run that was stopped goes on.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from scripts.experiments.common import run_python
from util.device import device_of, half_of, half_precision_chosen
from util.errors import InputError, names_some, one_line_errors
from util.files import read_json, write_json
from util.flags import Parser, name_and_count, positive_int, seed_int
from util.progress import progress_bar

MAIN_ONLY = "main"  # has no stage 0
NETWORKS: dict[str, list[str]] = {  # the flags of train.py in which they differ
    f"{prefix}{kind}_{channels}": [*flags, "--similarity", kind, "--key_dim", str(channels)]
    for prefix, flags, variants in (
        ("", [], [(kind, ck) for ck in (64, 128) for kind in ("l2", "dot", "cosine", "cosine_scaled")]),
        ("stm_", ["--arch", "stm"], [("l2", 64), ("dot", 64), ("dot", 128)]),
    )
    for kind, channels in variants
} | {"no_cbam": ["--no_attention"], MAIN_ONLY: []}
SHORT = {  # as for the light network
    "key_backbone": "resnet18",
    "value_backbone": "resnet18",
    "value_dim": 128,
    "optimizer": "adamw",
    "lr": 2e-4,
    "encoder_lr": 1e-4,
    "schedule": "cosine",
    "clip_grad": 5,
    "num_workers": 1,
    "save_every": 100,
}
STAGES = (0, 3)
MEASURED = 20  # iterations, for the estimate


class Task(NamedTuple):
    """One run of train.py."""

    network: str
    stage: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.network}_s{self.stage}"


def add_recipe_flags(result: argparse.ArgumentParser) -> None:
    for name in ("static_root", "davis_root", "yv_root"):
        result.add_argument(f"--{name}", default="none", metavar="DIR", help="as for train.py")
    result.add_argument("--own_root", nargs="+", default=[], metavar="DIR", help="as for train.py")
    result.add_argument("--mix", nargs="+", type=name_and_count, default=[], metavar="NAME=N", help="as for train.py")
    result.add_argument(
        "--iterations", nargs=2, type=positive_int, default=[200, 240], metavar="N", help="of stage 0 and of stage 3"
    )
    result.add_argument("--crop", type=positive_int, default=128, metavar="PIXELS", help="as for train.py")
    result.add_argument("--batch_size", type=positive_int, default=4, help="as for train.py")
    result.add_argument(
        "--amp", choices=("auto", "on", "off"), default="auto", help="half precision; auto: where the hardware has it"
    )
    result.add_argument("--no_pretrained", action="store_true", help="start without ImageNet weights")
    result.add_argument("--device", default="auto", help="as for train.py")
    result.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N", help="networks trained at a time; a GPU with many cores takes ten"
    )
    result.add_argument("--seeds", nargs="+", type=seed_int, default=[0], metavar="N", help="every network with each of these")
    result.add_argument(
        "--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME", help="these networks (default: all)"
    )


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__, prog="python -m scripts.experiments.networks")
    result.add_argument("--output", default="out/networks", metavar="DIR", help="folder for the networks")
    add_recipe_flags(result)
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    folder = Path(arguments.output)
    print(estimate(arguments, folder), flush=True)
    for seed in dict.fromkeys(arguments.seeds):
        train(arguments, folder, seed)


def recipe_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags of train.py that are the same for all networks."""
    names = ("static_root", "davis_root", "yv_root", "crop", "batch_size")
    device = device_of(arguments.device)
    half = half_precision_chosen(arguments.amp, device)
    return {
        **SHORT,
        **{name: getattr(arguments, name) for name in names},
        **({"amp_dtype": str(half_of(device)).removeprefix("torch.")} if half else {"no_amp": True}),
        "own_root": arguments.own_root,
        "mix": [f"{name}={percent}" for name, percent in arguments.mix],
        "iterations": arguments.iterations,
        "no_pretrained": arguments.no_pretrained,
    }


def tasks_of(arguments: argparse.Namespace, folder: Path, seeds: list[int]) -> list[Task]:
    """What is left to do, in order."""
    tasks = [
        Task(network, stage, seed)
        for seed in dict.fromkeys(seeds)
        for network in dict.fromkeys(arguments.only)
        for stage in STAGES
        if stage or network != MAIN_ONLY
    ]
    return [task for task in tasks if not (folder / f"seed{task.seed}" / f"{task.name}.pth").is_file()]


def train(arguments: argparse.Namespace, folder: Path, seed: int) -> None:
    """Train the networks of one seed; raises `InputError` if there are some of another recipe."""
    refuse_other_recipe(arguments, folder)
    tasks = tasks_of(arguments, folder, [seed])

    def train_one(network: str) -> None:
        for task in tasks:
            if task.network == network:  # its stages, one after the other
                run_python(command(arguments, task, folder / f"seed{seed}"))
                bar.increment()

    with progress_bar(len(tasks), "networks", shown=bool(tasks)) as bar, ThreadPoolExecutor(arguments.jobs) as pool:
        each = pool.map if arguments.jobs > 1 else map  # a thread of its own does not get Ctrl-C
        for _ in each(train_one, dict.fromkeys(task.network for task in tasks)):
            pass


def refuse_other_recipe(arguments: argparse.Namespace, folder: Path) -> None:
    path, recipe = folder / "recipe.json", recipe_of(arguments)
    if path.is_file() and (found := read_json(path)) != recipe:
        names = sorted(name for name, value in recipe.items() if not isinstance(found, dict) or found.get(name) != value)
        raise InputError(f"{path}: networks were made with other values of {names_some(names)}; give another folder")
    write_json(path, recipe)


def command(arguments: argparse.Namespace, task: Task, folder: Path, *, trial: int | None = None) -> list[str]:
    """The words behind `python` that train it in `folder`; a trial has so many iterations and starts from nothing."""
    iterations = arguments.iterations[STAGES.index(task.stage)]
    numbers = recipe_of(arguments) | {
        "iterations": trial or iterations,
        "bootstrap_start": iterations // 5,  # between a fifth and four fifths the loss turns to hard pixels
        "bootstrap_end": iterations * 4 // 5,
        "seed": task.seed,
        "device": arguments.device,
        "save_dir": folder,
    }
    if task.stage == 0:  # whose photographs are not mixed with videos
        numbers |= {"own_root": [], "mix": []}
    elif task.network != MAIN_ONLY and not trial:
        numbers |= {"load_network": folder / f"{task.network}_s0.pth", "no_pretrained": False}
    return ["train.py", "--id", task.network, "--stage", str(task.stage), *NETWORKS[task.network], *words(numbers)]


def words(flags: dict[str, Any]) -> Iterator[str]:
    """Flags of the command line; a list that is empty and `False` are left out."""
    for name, value in flags.items():
        if value is True:
            yield f"--{name}"
        elif value is not False and value != []:
            yield from (f"--{name}", *map(str, value if isinstance(value, list) else [value]))


def estimate(arguments: argparse.Namespace, folder: Path) -> str:
    """How long training will take, from `MEASURED` iterations of each kind that is left to do."""
    refuse_other_recipe(arguments, folder)
    tasks = tasks_of(arguments, folder, arguments.seeds)
    path = folder / "pace.json"
    pace: dict[str, float] = read_json(path) if path.is_file() else {}
    seconds = 0.0
    for task in tasks:
        kind = f"{'stm' if task.network.startswith('stm') else 'stcn'}_s{task.stage}"
        if kind not in pace:
            pace[kind] = seconds_of_iteration(arguments, task)
            write_json(path, pace)
        seconds += pace[kind] * arguments.iterations[STAGES.index(task.stage)]
    rates = ", ".join(f"{kind} {pace[kind]:.2f} s" for kind in sorted(pace))
    alone = ", one at a time" if arguments.jobs > 1 else ""
    return f"training: {len(tasks)} runs left, about {seconds / 3600:.1f} hours{alone} ({rates} an iteration)"


def seconds_of_iteration(arguments: argparse.Namespace, task: Task) -> float:
    """From two short runs, whose difference leaves out how long they take to start."""
    took = []
    for iterations in (1, 1 + MEASURED):
        with tempfile.TemporaryDirectory() as temporary:
            start = time.perf_counter()
            run_python(command(arguments, task, Path(temporary), trial=iterations))
            took.append(time.perf_counter() - start)
    return max(0.0, took[1] - took[0]) / MEASURED


if __name__ == "__main__":
    sys.exit(main())
