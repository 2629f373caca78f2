"""What is scored: the masks of results and of the truth that DAVIS and YouTube-VOS compare, and for which objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dataset.mask_reader import MaskReader
from dataset.video import Video
from dataset.youtube import ScoredObject
from evaluation.scores import ScoringJob
from util.errors import InputError, names_some, warn
from util.image_folder import natural_order
from util.label_map import object_ids

SHORTEST = 3  # frames with ground truth, of which DAVIS does not score the first and the last


def long_enough(videos: Sequence[Video]) -> list[Video]:
    """The videos that `davis_jobs` can score; warns of the others."""
    for video in videos:
        if len(video.truth) < SHORTEST:
            warn(f"not scored: {_too_short(video)}")
    return [video for video in videos if len(video.truth) >= SHORTEST]


def _too_short(video: Video) -> str:
    return f"{video.name}: expected ground truth of at least {SHORTEST} frames, found {len(video.truth)}"


def davis_jobs(videos: Sequence[Video], results: Path) -> list[ScoringJob]:
    """DAVIS's scoring jobs: all frames but the first and the last, for the objects in the first frame's ground truth.

    Raises `InputError` if a frame has no ground truth or no result, or a video is too short.
    """
    meta = {}
    for video in videos:
        if absent := video.without_truth:
            raise InputError(f"{names_some(absent)}: no ground truth")
        if len(video.truth) < SHORTEST:
            raise InputError(_too_short(video))
        frames = tuple(natural_order(video.truth))
        objects = [1] if video.union else object_ids(video.read_mask(video.truth[frames[0]]))
        meta[video.name] = {number: ScoredObject("", frames) for number in objects}
    return scoring_jobs(videos, meta, results, skip_last=True)


def scoring_jobs(
    videos: Sequence[Video],
    meta: Mapping[str, Mapping[int, ScoredObject]],
    results: Path,
    *,
    skip_last: bool = False,
    when_seen: bool = False,
) -> list[ScoringJob]:
    """For each object, the frames that `meta` lists after its first, with `skip_last` without the last.

    `meta` is the result of `dataset.youtube.read_youtube_meta` or `dataset.layouts.scored_objects`, `when_seen` is for the
    jobs; results are at `results/<video>/<frame>.png` (`result_folder`).  Objects with the same frames share a job.  Raises
    `InputError` if ground truth or a result is missing, or there is nothing to score.
    """
    jobs = []
    for video in videos:
        groups: dict[tuple[str, ...], list[int]] = {}
        for number, scored in meta[video.name].items():
            groups.setdefault(scored.frames[1 : -1 if skip_last else None], []).append(number)
        for frames, numbers in groups.items():
            if absent := [frame for frame in frames if frame not in video.truth]:
                raise InputError(f"{video.name}: expected ground truth for frame {absent[0]}, found none")
            if frames:
                paths = _existing(result_folder(results, video.name, alone=len(videos) == 1), frames)
                _warn_of_objects(video, paths, list(meta[video.name]))
                truth = [video.truth[frame] for frame in frames]
                jobs.append(ScoringJob(video.name, truth, paths, video.union, numbers, video.reader, when_seen))
    if not jobs:
        raise InputError(
            f"nothing to score: no object has a frame after its first{' and before its last' if skip_last else ''}"
        )
    return jobs


def result_folder(results: Path, name: str, *, alone: bool) -> Path:
    """Where a video's masks are: in `<results>/<name>`, in `masks` there or, if it is `alone`, in `<results>/masks`.

    `segment_video.py` writes such folders `masks`.
    """
    places = [results / name / "masks", results / name, *([results / "masks"] if alone else [])]
    return next((place for place in places if place.is_dir()), results / name)


def _warn_of_objects(video: Video, results: Sequence[Path], objects: Sequence[int]) -> None:
    """Warn if results do not tell the objects of their truth apart, or hold others, as the first that is not empty shows."""
    if video.union:
        return
    reader = MaskReader.of(results, drawn=False, note=None, colours=video.reader.known.colours)
    numbers = ", ".join(map(str, objects))
    if reader.known.white and len(objects) > 1:
        warn(f"{results[0].parent}: results hold 0 and 255 only, which is object 1, but the truth has objects {numbers}")
    elif not reader.known.own and (others := sorted(reader.known.ids - {*objects})):
        warn(f"{results[0].parent}: results hold object {others[0]}, but the truth has only {numbers}")


def _existing(folder: Path, frames: Sequence[str]) -> list[Path]:
    paths = [folder / f"{frame}.png" for frame in frames]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise InputError(f"{absent[0]}: no such result; {len(absent)} of {len(paths)} are missing there")
    return paths
