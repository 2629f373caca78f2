"""Run every experiment that small data can show, one after the other, and write a page of what came out.

python -m scripts.experiments.all demo/experiments --data demo/data

It trains the compared networks for some iterations first.  Every step goes on where it was stopped.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from dataset.davis import davis_videos
from scripts.experiments.common import LIGHT
from util.errors import InputError, one_line_errors
from util.flags import DefaultsFormatter, Parser, first_line, positive_int
from util.progress import progress_bar


def parser() -> argparse.ArgumentParser:
    program = "python -m scripts.experiments.all"
    result = Parser(program, description=first_line(__doc__), formatter_class=DefaultsFormatter)
    result.add_argument("output", metavar="DIR", help="folder for networks, results, tables, pictures and index.html")
    result.add_argument("--data", default="demo/data", metavar="DIR", help="folder with static/ and DAVIS/2017/")
    result.add_argument("--iterations", type=positive_int, default=60, metavar="N", help="of each stage of each network")
    result.add_argument("--crop", type=positive_int, default=96, metavar="PIXELS", help="of training samples")
    result.add_argument("--size", type=positive_int, metavar="PIXELS", help="as for eval_davis.py (default: the videos' own)")
    result.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps")
    return result


def steps(arguments: argparse.Namespace) -> list[list[str]]:
    """The commands, as the words behind `python`."""
    out, data = Path(arguments.output), Path(arguments.data)
    davis = str(data / "DAVIS/2017")
    first = davis_videos(davis)[0].name
    device = ["--device", arguments.device]
    same = ["--davis_path", davis, *device, *(["--size", str(arguments.size)] if arguments.size else [])]

    def experiment(name: str, *flags: str, folder: str = "") -> list[str]:
        return ["-m", f"scripts.experiments.{name}", "--output", str(out / (folder or name)), *flags]

    def networks(*names: str) -> list[str]:
        return ["--model", *(str(out / "networks" / f"{name}.pth") for name in names)]

    roots = ["--static_root", str(data / "static"), "--davis_root", davis]
    budget = ["--iterations", str(arguments.iterations), "--crop", str(arguments.crop), "--no_pretrained"]
    alike = [f"{kind}_{channels}_s0" for channels in (64, 128) for kind in ("l2", "dot", "cosine")]
    table_8 = ("stm_dot_64_s0", "stm_dot_128_s0", "stm_l2_64_s0", "dot_128_s0", "l2_64_s0")
    masks = [str(out / "table_8" / name / "every_5") for name in ("stm_l2_64_s0", "l2_64_s0")]
    drawing = ["--davis_path", davis, "--videos", first, "--output", str(out / "figure_7.png")]
    return [
        experiment("networks", *roots, *budget, *device),
        experiment("regions"),
        experiment("compare", *networks(*alike), *same, folder="table_2"),
        experiment("compare", *networks("l2_64_s0", "main_s3", "l2_64_s3"), *same, folder="table_7"),
        experiment("schedules", *networks(*table_8), "--every", "5", *same, folder="table_8"),
        experiment("schedules", "--model", LIGHT, "--every", "3", "5", *same, folder="table_9"),
        experiment("affinity", *networks("dot_64_s0", "l2_64_s0"), *same),
        experiment("correspondences", "--model", LIGHT, *same),
        experiment("timing", "--untrained", "--videos", first, *same),
        [
            "scripts/eval_rounds.py",
            "--output",
            str(out / "rounds"),
            "--source",
            "masks",
            "grabcut",
            "network",
            "--rounds",
            "4",
            "--videos",
            first,
            *same,
        ],
        ["scripts/show_results.py", "--results", *masks, *drawing],
        ["-m", "scripts.experiments.page", str(out)],
    ]


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    commands = steps(arguments)
    with progress_bar(len(commands), "experiments") as bar:
        for command in commands:
            print(f"--- python {' '.join(command)}", flush=True)
            if subprocess.run([sys.executable, *command]).returncode != 0:
                raise InputError(f"python {' '.join(command)}: failed")
            bar.increment()


if __name__ == "__main__":
    sys.exit(main())
