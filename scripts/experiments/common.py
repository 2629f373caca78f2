"""What the experiments share: flags, the data set, networks, scores."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dataset.davis import davis_videos
from dataset.video import Video
from dataset.video_names import add_videos_flags
from evaluation.flags import LARGEST_SIZE, MOST_THREADS, SMALLEST_SIZE
from evaluation.results import ResultFolder
from evaluation.run import run_benchmark
from evaluation.score_tables import davis_scores
from evaluation.scores import davis_jobs, long_enough, score_videos
from evaluation.tables import Row, grey
from model import STCN, load_for_inference
from model.checkpoint import digest
from util.device import device_of, timed_on, use_threads
from util.errors import InputError, names_some
from util.files import read_json, write_json
from util.flags import Parser, int_between, positive_int
from util.guards import path_in

LIGHT = "saves/stcn_light.pth"
ROOT = Path(__file__).parents[2]
MARKERS = "o^sDvP*X"


def experiment_parser(name: str, doc: str | None, *, data: bool = True) -> argparse.ArgumentParser:
    """The flags that experiments share: where results go, and with `data` the networks and the videos."""
    result = Parser(doc, prog=f"python -m scripts.experiments.{name}")
    result.add_argument("--output", default=f"out/{name}", metavar="DIR", help="folder for JSON files and pictures")
    if not data:
        return result
    result.add_argument("--model", nargs="+", default=[LIGHT], metavar="FILE", help="checkpoints, ours or released")
    result.add_argument("--davis_path", default="../DAVIS/2017", metavar="DIR", help="DAVIS val, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    add_videos_flags(result)
    result.add_argument(
        "--size",
        type=int_between(SMALLEST_SIZE, LARGEST_SIZE),
        metavar="PIXELS",
        help="shorter side at which networks work (default: the video's own)",
    )
    result.add_argument("--overwrite", action="store_true", help="replace what other settings have left in --output")
    result.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps")
    result.add_argument("--threads", type=int_between(1, MOST_THREADS), metavar="N", help="PyTorch threads on the CPU")
    return result


def add_memory_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mem_every", type=positive_int, default=5, metavar="R", help="frames between memory frames")
    parser.add_argument("--top", type=positive_int, default=20, metavar="K", help="memory positions that each position reads")


def videos_of(arguments: argparse.Namespace) -> list[Video]:
    """Raises `InputError` when the data set lacks one that `--videos` names."""
    return davis_videos(arguments.davis_path, year=arguments.year, only=arguments.videos)


def network_of(path: str, arguments: argparse.Namespace) -> STCN:
    """Ready for inference on `--device`."""
    use_threads(arguments.threads)
    return load_for_inference(path, device_of(arguments.device))


def run_python(words: Sequence[str]) -> None:
    """Run a command, the words behind `python`; raises `InputError` if it fails."""
    print(f"--- {shlex.join(['python', *words])}", flush=True)
    script = [] if words[0] == "-m" else [str(ROOT / words[0])]  # else a module
    if subprocess.run([sys.executable, *script, *words[len(script) :]]).returncode != 0:
        raise InputError(f"{shlex.join(['python', *words])}: failed")


def file_of(model: str) -> Row:
    """Which network a row of figures is of."""
    return {"file": model, "sha256": digest(model)}


def labels_of(models: Sequence[str]) -> dict[str, str]:
    """For each checkpoint a short name, with which files can be called: its own, and its folder's where that is not enough.

    Raises `InputError` for one that is given twice.
    """
    paths = [Path(model) for model in models]
    labels = [path.stem if len({p.stem for p in paths}) == len(paths) else f"{path.parent.name}_{path.stem}" for path in paths]
    if len(set(labels)) < len(labels):
        raise InputError(f"--model: expected different files, found {names_some({str(path) for path in paths})}")
    return dict(zip(models, labels, strict=True))


def settings_of(model: str, arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """What the results for one checkpoint depend on: it, the data set, and the flags of these names."""
    data = str(Path(arguments.davis_path).resolve())
    return {"model": digest(model), "data": data, **{name: getattr(arguments, name) for name in ("year", "size", *names)}}


def draw_tradeoff(rows: Sequence[Row], number: str, title: str) -> Figure:
    """J&F against frames per second: a curve for each network, also with the last frame, whose points say `number`."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for network, last in dict.fromkeys((row["network"], row.get("last", False)) for row in rows):
        found = [row for row in rows if (row["network"], row.get("last", False)) == (network, last)]
        points = [(row["frames/s"], row["J&F"]) for row in found]
        i = networks.index(network)
        look = {"marker": MARKERS[i % len(MARKERS)], "markersize": 8, "markerfacecolor": "white" if last else None}
        axes.plot(*zip(*points, strict=True), label=f"{network}{' + last' if last else ''}", **look, **grey(i))
        for row, point in zip(found, points, strict=True):
            axes.annotate(str(row[number]), point, textcoords="offset points", xytext=(6, 5))
    low, high = axes.get_ylim()
    axes.set_ylim(low - 2, high + 2)  # else a tenth of a point looks like a cliff
    axes.set(xlabel="frames per second", ylabel="J&F, %", title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure


def score(
    models: Sequence[str],
    videos: list[Video],
    folder: Path,
    arguments: argparse.Namespace,
    *,
    views: Mapping[str, Any] | None = None,
    **options: Any,
) -> Row:
    """Segment the videos into `folder`, as eval_davis.py does: J&F, J and F in percent, frames per second of
    processing, and J&F of each of the `videos`.

    `options` are those of `VideoSegmenter`, `views` those of `run_benchmark`.  Goes on after a stop; the speed is then that
    of the parts that were finished.
    """
    use_threads(arguments.threads)  # before `timed_on`
    root = Path(arguments.output)
    folder = path_in(root, *folder.relative_to(root).parts, source=root)  # through no link out of --output
    results = ResultFolder(folder)
    speed = folder / "speed.json"
    summary = run_benchmark(
        videos,
        results,
        {"year": arguments.year, **timed_on()},
        models=models,
        segmenter={"size": arguments.size, **options},
        network={},
        amp="off",
        device=arguments.device,
        threads=arguments.threads,
        overwrite=arguments.overwrite,
        **(views or {}),
    )
    if summary is None or summary.failures:
        raise InputError(f"{folder}: {summary.failures[0] if summary else 'not finished'}")
    if summary.frames:
        before = read_json(speed) if summary.finished_before and speed.is_file() else {}
        measured = {name: getattr(summary, name) + before.get(name, 0) for name in ("frames", "seconds")}
        write_json(speed, measured)
    tree = davis_scores(score_videos(davis_jobs(long_enough(videos), results.masks)))
    total = tree["global"]
    figures = {"J&F": total["J&F"], "J": total["J"]["mean"], "F": total["F"]["mean"]}
    result: Row = {name: 100 * value for name, value in figures.items()}
    if speed.is_file():
        result["frames/s"] = (measured := read_json(speed))["frames"] / measured["seconds"]
    return result | {"videos": {name: 100 * sequence["J&F"] for name, sequence in tree["sequences"].items()}}
