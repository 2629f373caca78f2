"""Score a folder of results: DAVIS and other benchmarks by their rules, YouTube-VOS approximately.

python scripts/score.py --results out/davis --davis_path ../DAVIS/2017 --split val --year 2017
python scripts/score.py --results out/youtube --yv_path ../YouTube --truth ../YouTube/train_480p/Annotations
python scripts/score.py --results out/mose --layout mose --path ../MOSE --split train
"""

import argparse
import json
import sys
from pathlib import Path

from dataset.youtube import read_youtube_meta
from evaluation.score_tables import davis_scores, hota, seen_and_unseen, told_absence, told_scope, write_davis_scores
from evaluation.scores import score_videos
from evaluation.truth import add_processes_flag, add_truth_flags, read_truth
from util.errors import InputError, WriteError, one_line_errors, warn
from util.flags import Parser


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("--results", required=True, metavar="DIR", help="folder with <video>/<frame>.png; scores go there")
    add_truth_flags(result, required=True)
    add_processes_flag(result)
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    results = Path(arguments.results)
    if not results.is_dir():
        raise InputError(f"--results {results}: no such folder")
    truth = read_truth(arguments).of(results)
    for path in (path for video in truth.videos for path in video.truth.values()):
        if results.resolve() in path.resolve().parents:
            raise InputError(f"--results {results}: holds the ground truth ({path}), where no scores are written")
    scores = score_videos(truth.jobs(results), processes=arguments.processes)
    tree = davis_scores(scores, truth.layout.statistic if truth.layout else "")
    if truth.layout and truth.layout.hota:
        tree["global"] |= hota(score for objects in scores.values() for score in objects.values())
    meta = truth.meta or {}
    if any(scored.category for objects in meta.values() for scored in objects.values()):
        seen = {"seen"} if truth.root is None else seen_categories(truth.root, meta)
        tree["global"] |= seen_and_unseen(tree, meta, seen)
    try:
        written = write_davis_scores(tree, results, truth.split)
    except WriteError as error:  # a folder that only others may write
        warn(f"{error}; the scores are only shown")
        print(json.dumps(tree["global"], indent=1))
        return
    if truth.root is not None:
        print("approximate: the benchmark's own scorer is not public")
    print(told_scope(tree))
    print(written[0].read_text(), end="")
    if line := told_absence(tree):
        print(line)
    for path in written:
        print(f"scores: {path}")


def seen_categories(root: Path, meta: dict) -> set[str]:
    """The training set's categories; without its `meta.json`, all categories named in `meta`."""
    for train in (root / "train" / "meta.json", root / "train_480p" / "meta.json"):
        if train.is_file():
            return {entry.category for video in read_youtube_meta(train).values() for entry in video.values()}
    print(f"no {root}/train/meta.json: all named categories count as seen")
    return {entry.category for video in meta.values() for entry in video.values()} - {"", "unknown"}


if __name__ == "__main__":
    sys.exit(main())
