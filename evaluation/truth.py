"""The data set that folders of results are compared with: its flags, its videos and their scores."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dataset.davis import davis_videos
from dataset.layouts import LAYOUTS, Layout, chosen_split, layout_videos, scored_objects
from dataset.video import Video
from dataset.video_names import add_videos_flags
from dataset.youtube import annotated_objects, is_own_data, read_youtube_meta, youtube_videos
from evaluation.results import RUN_RECORD, read_record
from evaluation.scores import ScoringJob, davis_jobs, long_enough, scoring_jobs
from util.errors import InputError, names_some, warn
from util.flags import positive_int


class Truth(NamedTuple):
    """A data set with ground truth."""

    title: str
    videos: list[Video]
    split: str
    meta: dict[str, dict[int, Any]] | None = None  # the scored objects, where DAVIS's protocol does not say them
    root: Path | None = None  # of YouTube-VOS, whose training set says which categories were seen
    layout: Layout | None = None

    def of(self, results: Path) -> "Truth":
        """With those videos of which `results` is: all, or the one that `segment_video.py` has written there."""
        if not (results / "masks").is_dir() or any((results / video.name).is_dir() for video in self.videos):
            return self
        name = results.resolve().name
        videos = self.videos if len(self.videos) == 1 else [video for video in self.videos if video.name == name]
        if not videos:
            names = names_some(video.name for video in self.videos)
            raise InputError(f"{results}: holds masks of one video; name the folder like it, one of {names}")
        return self._replace(videos=videos)

    def jobs(self, results: Path) -> list[ScoringJob]:
        """What is to be scored; raises `InputError` if a result is missing."""
        jobs = self._jobs(results)
        with suppress(InputError):  # of others, or without a record
            if read_record(results / RUN_RECORD).settings.get("all_masks"):
                warn(f"{results}: made with --all_masks, so that scores count masks that were given")
        for job in jobs:
            if job.results[0].resolve() == job.truth[0].resolve():
                raise InputError(f"{results}: expected results, found the ground truth ({job.results[0]})")
        return jobs

    def _jobs(self, results: Path) -> list[ScoringJob]:
        if self.meta is None:
            return davis_jobs(long_enough(self.videos) or self.videos, results)
        folder = results / "Annotations"
        rules = {} if self.layout is None else {"skip_last": not self.layout.last, "when_seen": self.layout.scored == "seen"}
        return scoring_jobs(self.videos, self.meta, folder if folder.is_dir() else results, **rules)


def add_truth_flags(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the flags that say which data set it is; unless they are `required`, it is DAVIS in its usual place."""
    which = parser.add_mutually_exclusive_group(required=required)
    default = None if required else "../DAVIS/2017"
    which.add_argument("--davis_path", default=default, metavar="DIR", help="DAVIS, as for eval_davis.py")
    which.add_argument(
        "--yv_path", "--path", metavar="DIR", help="YouTube-VOS, your own videos or those of --layout, as for eval_youtube.py"
    )
    parser.add_argument("--layout", choices=LAYOUTS, help="which benchmark --path is (default: none)")
    parser.add_argument(
        "--split", help="DAVIS: val or testdev; YouTube-VOS: valid or test; else as for eval_youtube.py (default: the first)"
    )
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    parser.add_argument(
        "--truth", metavar="DIR", help="YouTube-VOS: folder with full annotations (default: <yv_path>/<split>/Annotations)"
    )
    add_videos_flags(parser)


def add_processes_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=positive_int, help="number of scoring processes (default: one per core)")


def read_truth(arguments: argparse.Namespace, *, scored: bool = True) -> Truth:
    """The data set that `add_truth_flags` names; a warning tells which of its videos have no masks.

    With `scored` off, ground truth may be missing.
    """
    left_out: list[str] = []
    if arguments.layout:
        if not arguments.yv_path or arguments.truth:
            raise InputError("--layout: expected --path DIR, and no --truth")
        layout, root = LAYOUTS[arguments.layout], Path(arguments.yv_path)
        split = chosen_split(arguments.split, layout.splits)
        videos = layout_videos(layout, root, split=split, only=arguments.videos, left_out=left_out)
        objects = scored_objects(layout, root, split, videos) if scored else None
        truth = Truth(f"{layout.title} {split}", videos, split, objects, layout=layout)
    elif arguments.yv_path:
        root = Path(arguments.yv_path)
        own = is_own_data(root)
        split = chosen_split(arguments.split, ("valid", "test"), own=own)
        folder = root if own else root / split
        shown = Path(arguments.truth or folder / "Annotations")
        shown = next((place for place in (shown / "Annotations", shown / split / "Annotations") if place.is_dir()), shown)
        videos = youtube_videos(root, split=split, truth=shown, only=arguments.videos, left_out=left_out)
        meta: dict[str, dict[int, Any]] | None = None
        if scored:
            meta = {v.name: annotated_objects(v) for v in videos} if own else read_youtube_meta(folder / "meta.json")
            if arguments.videos is not None:
                meta = {name: objects for name, objects in meta.items() if name in arguments.videos}
        title = str(root) if own else f"YouTube-VOS {split}"
        truth = Truth(title, videos, split, meta, None if own else root)
    else:
        if arguments.truth:
            raise InputError("--truth: goes with --yv_path; DAVIS has its own")
        split = chosen_split(arguments.split, ("val", "testdev"))
        videos = davis_videos(arguments.davis_path, split=split, year=arguments.year, only=arguments.videos, left_out=left_out)
        truth = Truth(f"DAVIS {arguments.year} {split}", videos, split)
    for problem in left_out:
        warn(f"left out: {problem}")
    return truth


def frames_by_object(jobs: Sequence[ScoringJob]) -> dict[str, dict[int, list[str]]]:
    """The scored frames of each object of each video."""
    found: dict[str, dict[int, list[str]]] = {}
    for job in jobs:
        of_video = found.setdefault(job.name, {})
        of_video.update({number: [path.stem for path in job.results] for number in job.objects})
    return found
