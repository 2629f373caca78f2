"""Run every experiment, seed after seed, and write a page of what came out beside what the paper says.

python -m scripts.experiments.all out/experiments --static_root ../static --davis_root ../DAVIS/2017 --davis_2017 ../DAVIS/2017

scripts/experiments/all.sh calls it.  Every step goes on where it was stopped; results.json and index.html are written anew
after each seed.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from dataset.davis import davis_videos
from dataset.video import Video
from evaluation.flags import LARGEST_SIZE, MOST_THREADS, SMALLEST_SIZE
from scripts.experiments.claims import SEEDS_NEEDED, read_grade
from scripts.experiments.common import LIGHT, run_python
from scripts.experiments.networks import STAGES, add_recipe_flags, estimate, recipe_of, train, words
from util.device import timed_on, use_threads
from util.errors import InputError, names_some, one_line_errors
from util.files import write_json
from util.flags import Parser, int_between
from util.progress import progress_bar

PARTS = ("networks", "schedules", "affinity", "timing", "light", "figures")
NODES = ("l2_64_s3", "dot_64_s3", "dot_128_s3")  # Figure 4
BEST = "l2_64_s3"


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__, prog="python -m scripts.experiments.all")
    result.add_argument("output", metavar="DIR", help="folder for networks, results, tables, pictures and index.html")
    result.add_argument("--quick", action="store_true", help="say everywhere that the numbers mean nothing")
    for year in (2016, 2017):
        result.add_argument(f"--davis_{year}", metavar="DIR", help=f"score on DAVIS {year} val")
    result.add_argument("--size", type=int_between(SMALLEST_SIZE, LARGEST_SIZE), metavar="PIXELS", help="as for eval_davis.py")
    result.add_argument("--threads", type=int_between(1, MOST_THREADS), metavar="N", help="as for eval_davis.py")
    result.add_argument("--networks", metavar="DIR", help="folder of the trained networks (default: networks/ in DIR)")
    result.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="do these alone")
    add_recipe_flags(result)
    return result


class Experiments:
    """Runs the experiments and keeps a list of the tables and commands in grade.json, which `claims` reads."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.folder = arguments, Path(arguments.output)
        self.trained = Path(arguments.networks) if arguments.networks else self.folder / "networks"
        self.sets = {year: path for year in (2016, 2017) if (path := getattr(arguments, f"davis_{year}"))}
        if not self.sets:
            raise InputError("expected --davis_2016, --davis_2017 or both, to score on")
        self.videos = {year: davis_videos(path, year=year) for year, path in self.sets.items()}
        use_threads(arguments.threads)
        settings = {
            "grade": "quick" if arguments.quick else "real",
            **timed_on(),
            "size": arguments.size,
            "videos": {f"DAVIS {year}": [video.name for video in videos] for year, videos in self.videos.items()},
            "recipe": recipe_of(arguments),
        }
        path = self.folder / "grade.json"
        self.record: dict[str, Any] = {"settings": settings, "tables": {}, "commands": {}}
        if path.is_file():
            old = read_grade(self.folder)
            if names := sorted(name for name in settings if old["settings"].get(name) != settings[name]):
                raise InputError(f"{path}: results of other {names_some(names)} are here; give another folder")
            self.record = old

    def run(self) -> None:
        arguments, seeds = self.arguments, list(dict.fromkeys(self.arguments.seeds))
        write_json(self.folder / "grade.json", self.record)
        if "networks" in arguments.parts and not arguments.quick:
            print(estimate(arguments, self.trained), flush=True)
        with progress_bar(len(seeds) + 1, "parts") as bar:
            self.light()
            bar.increment()
            for seed in seeds:
                if "networks" in arguments.parts:
                    train(arguments, self.trained, seed)
                self.scores(seed)
                if seed == seeds[-1]:
                    self.ensemble(seeds)
                    self.figures()
                self.write_page()
                bar.increment()

    def light(self) -> None:
        """What one network can show: Tables 9 and 10, and k."""
        if "light" in self.arguments.parts:
            for name, flags in (("schedules", ["--every", "3", "5", "10"]), ("variants", [])):
                self.experiment(name, f"light_{name}", "light", [LIGHT], *flags)

    def scores(self, seed: int) -> None:
        """Tables 1, 2, 7 and 8, Figures 4 and 5."""
        names = [
            f"{name}_s{stage}"
            for name in dict.fromkeys(self.arguments.only)
            for stage in STAGES
            if stage or f"{name}_s3" == BEST
        ]
        for table, wanted in (("schedules", names), ("affinity", [name for name in NODES if name in names])):
            if table in self.arguments.parts and wanted:
                models = [str(self.trained / f"seed{seed}/{name}.pth") for name in wanted]
                flags = ["--every", "5"] if table == "schedules" else []
                self.experiment(table, table, f"seed{seed}", models, *flags)
        if "timing" in self.arguments.parts:
            year, video = self.crowded()
            self.experiment("timing", "timing", f"seed{seed}", [], "--untrained", "--videos", video.name, years=[year])

    def ensemble(self, seeds: list[int]) -> None:
        models = [self.trained / f"seed{seed}/{BEST}.pth" for seed in seeds[:SEEDS_NEEDED]]
        if "light" in self.arguments.parts and len(models) == SEEDS_NEEDED and all(model.is_file() for model in models):
            self.experiment("variants", "ensemble_variants", "ensemble", [str(model) for model in models])

    def figures(self) -> None:
        """Figures 2, 3, 6 and 7, the operations of Table 2, and rounds of corrections."""
        if "figures" not in self.arguments.parts:
            return
        (year, video), out = self.crowded(), self.folder / "figures"
        same = self.flags_of(year)
        for name in ("regions", "costs"):
            run_python(["-m", f"scripts.experiments.{name}", "--output", str(out / name)])
        run_python(["-m", "scripts.experiments.correspondences", "--output", str(out / "correspondences"), *same])
        few = ["--rounds", "4", "--videos", video.name]
        run_python(
            ["scripts/eval_rounds.py", "--output", str(out / "rounds"), "--source", "masks", "grabcut", "network", *few, *same]
        )
        places = [self.place(f"seed{self.arguments.seeds[0]}", year, "schedules") / name for name in (f"stm_{BEST}", BEST)]
        masks = [str(place / "every_5") for place in places if (place / "every_5").is_dir()]
        if masks:
            drawing = ["--davis_path", self.sets[year], "--videos", video.name]
            run_python(["scripts/show_results.py", "--results", *masks, *drawing, "--output", str(out / "figure_7.png")])

    def experiment(
        self, name: str, table: str, run: str, models: list[str], *flags: str, years: list[int] | None = None
    ) -> None:
        """Make a table of this run (a seed) for each data set."""
        paths, commands = [], []
        for year in years or self.sets:
            place = self.place(run, year, name)
            command = ["-m", f"scripts.experiments.{name}", "--output", str(place), *flags, *self.flags_of(year)]
            command += ["--model", *models] if models else []
            run_python(command)
            paths.append(str((place / f"{name}.json").relative_to(self.folder)))
            told = shlex.join(["python", *command])
            for path, variable in ((self.folder, "OUT"), (self.sets[year], f"DAVIS_{year}")):
                told = told.replace(str(path), f"${variable}")  # as all.sh calls them
            commands.append(told)
        tables, recorded = (self.record[kind].setdefault(table, []) for kind in ("tables", "commands"))
        if paths not in tables:
            tables.append(paths)
        start = sum(map(len, tables[: tables.index(paths)]))
        recorded[start : start + len(paths)] = commands  # which may have more networks than before
        write_json(self.folder / "grade.json", self.record)

    def place(self, run: str, year: int, name: str) -> Path:
        return self.folder / run / f"davis_{year}" / name

    def flags_of(self, year: int) -> list[str]:
        numbers = {name: getattr(self.arguments, name) for name in ("size", "threads", "device")}
        numbers = {name: value for name, value in numbers.items() if value is not None}
        return list(words({"davis_path": self.sets[year], "year": year, **numbers}))

    def crowded(self) -> tuple[int, Video]:
        """The video with most objects, which is where STM and STCN differ, and its year."""
        found = [(year, video) for year, videos in self.videos.items() for video in videos]
        return max(found, key=lambda pair: pair[1].count_objects()[0])

    def write_page(self) -> None:
        for name in ("claims", "page"):
            run_python(["-m", f"scripts.experiments.{name}", str(self.folder)])


@one_line_errors
def main() -> None:
    Experiments(parser().parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
