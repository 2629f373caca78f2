"""The only evaluation loop: videos in, folders of masks out, each finished whole or not at all."""

import json
import os
import resource
import shutil
import sys
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from util.distributed import Group, device_of
from util.errors import InputError
from util.files import write_atomically
from util.image import normalise, resize_image, resize_labels, resize_probabilities, shorter_side_size
from util.log import progress_bar

WAITING_MASKS = 16  # at most so many results wait to be written


class VideoLike(Protocol):
    """What the loop needs of `dataset.video.Video`."""

    name: str
    masks: Mapping[str, Path]
    wanted: frozenset[str]

    def __len__(self) -> int: ...
    def frames(self, *, workers: int) -> Iterable[Any]: ...
    def write_mask(self, path: Path, labels: np.ndarray) -> None: ...


class SegmenterLike(Protocol):
    """What the loop needs of `model.inference.VideoSegmenter`."""

    device: torch.device

    def step(self, image: Tensor, mask: Tensor | None, wanted: bool) -> Tensor | None: ...
    def to_labels(self, probabilities: Tensor) -> Tensor: ...


class Summary(NamedTuple):
    """What a run did, over all processes."""

    frames: int  # with a result
    seconds: float  # of processing: without reading and writing, summed over processes
    wall_seconds: float
    peak_bytes: int  # the largest of any process: CUDA memory, or resident memory of the process
    peak_of: str
    finished_before: int  # videos
    failures: list[str]

    def __str__(self) -> str:
        lines = []
        if self.finished_before:
            lines.append(f"{self.finished_before} videos were finished before and are kept")
        if self.frames:
            lines.append(
                f"{self.frames} frames: {self.frames / self.seconds:.2f} frames per second of processing, "
                f"{self.frames / self.wall_seconds:.2f} from end to end"
            )
        lines.append(f"peak {self.peak_of} memory: {self.peak_bytes / 2**20:.0f} MiB")
        lines += [f"failed: {failure}" for failure in self.failures]
        return "\n".join(lines)


class ResultFolder:
    """`<root>/<subfolder>/<video>/<frame>.png`, and `<root>/run.json`, which records how they were made."""

    def __init__(self, root: str | Path, *, subfolder: str = "") -> None:
        self.root = Path(root)
        self.masks = self.root / subfolder

    def claim(self, videos: Iterable[VideoLike], settings: dict[str, Any], *, overwrite: bool) -> None:
        """Make the folder this run's own.

        Raises `InputError` when it holds results made with other settings (what differs is named) or not by us; with
        `overwrite` the results of these videos and of those that `run.json` names are removed instead.  What is read is
        never where results go.
        """
        for video in videos:
            for mask in video.masks.values():
                if mask.resolve().is_relative_to(self.masks.resolve()):
                    raise InputError(f"{mask}: lies where the results go; give another --output")
        record = self.root / "run.json"
        old, names = self._read_record(record), [video.name for video in videos]
        recorded = old.pop("videos", [])
        differing = sorted(key for key in settings.keys() | old.keys() if settings.get(key) != old.get(key))
        if overwrite:
            for name in {*names, *recorded}:
                shutil.rmtree(self.masks / name, ignore_errors=True)
            for path in (*self.root.glob("*_results-*.csv"), self.root / "scores.json", self.root / "results.zip"):
                path.unlink(missing_ok=True)
            recorded = []
        elif differing and any((self.masks / name).exists() for name in {*names, *recorded}):
            what = "; ".join(f"{key} was {old.get(key)}, is {settings.get(key)}" for key in differing)
            raise InputError(f"{self.root}: holds results of another run ({what}); --overwrite replaces them")
        text = json.dumps({**settings, "videos": sorted({*names, *recorded})}, indent=2) + "\n"
        write_atomically(record, lambda file: file.write(text.encode()))

    def folder(self, video: VideoLike) -> Path:
        return self.masks / video.name

    def is_finished(self, video: VideoLike) -> bool:
        folder = self.folder(video)
        return folder.is_dir() and all((folder / f"{name}.png").is_file() for name in video.wanted)

    def start(self, video: VideoLike) -> Path:
        """An empty folder to write into, which does not look finished whatever happens."""
        partial = self.masks / f".{video.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def finish(self, video: VideoLike, partial: Path) -> None:
        shutil.rmtree(self.folder(video), ignore_errors=True)
        os.replace(partial, self.folder(video))

    def zip(self, videos: Iterable[VideoLike]) -> Path:
        """`<root>/results.zip` for a benchmark server: paths as they lie below `root`."""
        path = self.root / "results.zip"

        def write(file) -> None:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
                for video in videos:
                    for name in sorted(video.wanted):
                        mask = self.folder(video) / f"{name}.png"
                        archive.write(mask, mask.relative_to(self.root))

        write_atomically(path, write)
        return path

    @staticmethod
    def _read_record(record: Path) -> dict[str, Any]:
        try:
            old = json.loads(record.read_text())
        except (OSError, ValueError):
            old = None
        return old if isinstance(old, dict) else {"run.json": "missing or damaged"}


def evaluate(
    videos: list[VideoLike],
    make_segmenter: Callable[[], SegmenterLike],
    results: ResultFolder,
    group: Group,
    *,
    size: int | None = None,
    workers: int = 2,
    shown: bool = True,
) -> Summary | None:
    """Segment the videos that are not finished yet, shared out over the processes of `group`.

    `make_segmenter` gives a fresh segmenter for each video.  `size` is the shorter side at which the network works
    (`None`: the video's own); results have the video's size.  A video that cannot be read fails alone and is named in
    the summary, which rank 0 gets; the others get `None`.  `shown` draws the progress.
    """
    start = time.perf_counter()
    # every rank must see the same videos as finished, so rank 0 looks
    finished = group.broadcast({video.name for video in videos if results.is_finished(video)})
    mine = share([video for video in videos if video.name not in finished], group.world)[group.rank]
    frames, seconds, failures = 0, 0.0, []
    with progress_bar(sum(map(len, mine)), "frames", shown=shown and group.rank == 0 and bool(mine)) as bar:
        for video in mine:
            partial = results.start(video)
            before = bar.value or 0
            try:
                seconds += segment_video(video, make_segmenter(), partial, size=size, workers=workers, on_frame=bar.increment)
            except InputError as error:
                failures.append(f"{video.name}: {error}")
                shutil.rmtree(partial)
                continue
            finally:
                bar.update(before + len(video))  # frames behind the last wanted one are not looked at
            results.finish(video, partial)
            frames += len(video.wanted)
    peak_of, peak_bytes = peak_memory()
    parts = group.gather((frames, seconds, peak_bytes, failures))
    if not parts:
        return None
    all_frames, all_seconds, peaks, all_failures = zip(*parts, strict=True)
    return Summary(
        frames=sum(all_frames),
        seconds=sum(all_seconds),
        wall_seconds=time.perf_counter() - start,
        peak_bytes=max(peaks),
        peak_of=peak_of,
        finished_before=len(finished),
        failures=sorted(failure for failures in all_failures for failure in failures),
    )


def run_benchmark(
    videos: list[VideoLike],
    results: ResultFolder,
    settings: dict[str, Any],
    segmenter_maker: Callable[[torch.device], Callable[[], SegmenterLike]],
    *,
    device: str,
    overwrite: bool,
    size: int | None = None,
    workers: int = 2,
    threads: int | None = None,
) -> Summary | None:
    """What an evaluation script does between its flags and its scores, in each process that torchrun started.

    `segmenter_maker(device)` loads the network there, before `results` is touched, and gives what `evaluate` needs;
    `settings` is what `results` must have been made with; `threads` are PyTorch's on the CPU.  Prints and returns the
    summary on rank 0, `None` elsewhere.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with Group() as group:
        make_segmenter = segmenter_maker(device_of(device))
        problem = None
        if group.rank == 0:
            try:
                results.claim(videos, settings, overwrite=overwrite)
            except InputError as error:
                problem = error
        if problem := group.broadcast(problem):  # else the others would wait for a rank that is gone
            raise problem
        summary = evaluate(videos, make_segmenter, results, group, size=size, workers=workers)
    if summary is not None:
        print(summary)
        print(f"masks: {results.masks}")
    return summary


def segment_video(
    video: VideoLike,
    segmenter: SegmenterLike,
    folder: Path,
    *,
    size: int | None = None,
    workers: int = 2,
    on_frame: Callable[[], Any] = lambda: None,
) -> float:
    """Write the wanted masks of one video into `folder`; returns the seconds of processing, reading and writing aside."""
    seconds = 0.0
    with ThreadPoolExecutor(max(1, workers)) as writers:
        waiting: deque[Future] = deque()
        for frame in video.frames(workers=workers):
            start = time.perf_counter()
            labels = _segment_frame(segmenter, frame.image, frame.mask, frame.wanted, size)
            seconds += time.perf_counter() - start
            if labels is not None:
                waiting.append(writers.submit(video.write_mask, folder / f"{frame.name}.png", labels))
                if len(waiting) > WAITING_MASKS:
                    waiting.popleft().result()
            on_frame()
        while waiting:
            waiting.popleft().result()
    return seconds


def _segment_frame(
    segmenter: SegmenterLike, image: np.ndarray, mask: np.ndarray | None, wanted: bool, size: int | None
) -> np.ndarray | None:
    original = image.shape[:2]
    working = shorter_side_size(*original, size)
    image = resize_image(normalise(torch.from_numpy(image).to(segmenter.device)), working)
    if mask is not None:
        mask = resize_labels(torch.from_numpy(mask).to(segmenter.device), working)
    probabilities = segmenter.step(image, mask, wanted)
    if not wanted:
        return None
    with torch.inference_mode():
        return segmenter.to_labels(resize_probabilities(probabilities, original)).cpu().numpy()


def share(videos: list[VideoLike], ranks: int) -> list[list[VideoLike]]:
    """Deal the videos out, longest first, each to the rank with the fewest frames so far."""
    shares: list[list[VideoLike]] = [[] for _ in range(ranks)]
    for video in sorted(videos, key=lambda video: (-len(video), video.name)):
        min(shares, key=lambda share: sum(map(len, share))).append(video)
    return shares


def peak_memory() -> tuple[str, int]:
    """What was measured (`GPU` or `resident`) and its peak in bytes so far in this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return "GPU", torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return "resident", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
