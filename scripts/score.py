"""Score a folder of results: DAVIS 2016 and 2017 with the official protocol, YouTube-VOS approximately.

python scripts/score.py --results out/davis --davis_path ../DAVIS/2017 --split val --year 2017
python scripts/score.py --results out/youtube --yv_path ../YouTube --truth ../YouTube/train_480p/Annotations
"""

import argparse
import sys
from pathlib import Path

import evaluation.scores as scoring
from dataset.benchmarks import annotated_objects, davis_videos, is_own_data, read_youtube_meta, youtube_videos
from util.errors import InputError, one_line_errors
from util.flags import DefaultsFormatter, first_line, positive_int


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=first_line(__doc__), formatter_class=DefaultsFormatter)
    result.add_argument("--results", required=True, metavar="DIR", help="folder with <video>/<frame>.png; scores go there")
    which = result.add_mutually_exclusive_group(required=True)
    which.add_argument("--davis_path", metavar="DIR", help="DAVIS, as for eval_davis.py")
    which.add_argument("--yv_path", metavar="DIR", help="YouTube-VOS or your own videos, as for eval_youtube.py")
    result.add_argument("--split", help="DAVIS: val or testdev; YouTube-VOS: valid or test (default: the first)")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    result.add_argument(
        "--truth", metavar="DIR", help="YouTube-VOS: folder with full annotations (default: <yv_path>/<split>/Annotations)"
    )
    result.add_argument("--processes", type=positive_int, help="number of scoring processes (default: one per core)")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    results = Path(arguments.results)
    if not results.is_dir():
        raise InputError(f"--results {results}: no such folder")
    written = score_youtube(arguments, results) if arguments.yv_path else score_davis(arguments, results)
    print(written[0].read_text(), end="")
    for path in written:
        print(f"scores: {path}")


def score_davis(arguments: argparse.Namespace, results: Path) -> list[Path]:
    split = _split(arguments.split, ("val", "testdev"))
    videos = davis_videos(arguments.davis_path, split=split, year=arguments.year)
    jobs = scoring.davis_jobs(videos, results)
    scores = scoring.davis_scores(scoring.score_videos(jobs, processes=arguments.processes))
    return scoring.write_davis_scores(scores, results, split)


def score_youtube(arguments: argparse.Namespace, results: Path) -> list[Path]:
    split = _split(arguments.split, ("valid", "test"))
    root = Path(arguments.yv_path)
    own = is_own_data(root)
    folder = root if own else root / split
    videos = youtube_videos(root, split=split, truth=arguments.truth or folder / "Annotations")
    meta = {v.name: annotated_objects(v) for v in videos} if own else read_youtube_meta(folder / "meta.json")
    masks = results / "Annotations" if (results / "Annotations").is_dir() else results
    jobs = scoring.youtube_jobs(videos, meta, masks)
    seen = {""} if own else seen_categories(root, meta)
    scores = scoring.youtube_scores(scoring.score_videos(jobs, processes=arguments.processes), meta, seen)
    if not own:
        print("approximate: the benchmark's own scorer is not public")
    return scoring.write_youtube_scores(scores, results, split)


def seen_categories(root: Path, meta: dict) -> set[str]:
    """The training set's categories; without its `meta.json`, all categories named in `meta`."""
    for train in (root / "train" / "meta.json", root / "train_480p" / "meta.json"):
        if train.is_file():
            return {entry.category for video in read_youtube_meta(train).values() for entry in video.values()}
    print(f"no {root}/train/meta.json: all named categories count as seen")
    return {entry.category for video in meta.values() for entry in video.values()} - {"", "unknown"}


def _split(split: str | None, choices: tuple[str, ...]) -> str:
    if split is not None and split not in choices:
        raise InputError(f"--split: expected {' or '.join(choices)}, found {split}")
    return split or choices[0]


if __name__ == "__main__":
    sys.exit(main())
