"""The only evaluation loop: videos in, folders of masks out, each finished whole or not at all."""

import json
import os
import resource
import sys
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from util.distributed import Group, device_of, use_threads
from util.errors import InputError, shorten
from util.files import digest, make_folder, path_in, read_json, refuse_foreign, remove_files, remove_folder, write_atomically
from util.image import normalise, resize_image, resize_labels, resize_probabilities, shorter_side_size
from util.log import progress_bar
from util.metrics import SCORE_FILES

WAITING_MASKS = 16  # at most so many results wait to be written
RECORD_FORMAT, RECORD_VERSION = "STCN results", 1
ARCHIVE = "results.zip"


class VideoLike(Protocol):
    """What the loop needs of `dataset.video.Video`."""

    name: str
    images: Sequence[Path]
    masks: Mapping[str, Path]
    wanted: frozenset[str]
    union: bool
    all_masks: bool

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


class Recorded(NamedTuple):
    """What `run.json` says of a video's results."""

    inputs: str | None  # digest of all that they were made from; `None` when something could not be read
    frames: tuple[str, ...]  # names of the masks, without suffix

    @property
    def files(self) -> set[str]:
        return {f"{frame}.png" for frame in self.frames}


class Record(NamedTuple):
    """The content of `run.json`: how the results in a folder were made, and which these are."""

    settings: dict[str, Any]
    videos: dict[str, Recorded]


class ResultFolder:
    """`<root>/<subfolder>/<video>/<frame>.png`, and `<root>/run.json`, which records how they were made.

    Nothing is removed but what the record names: folders of videos that hold the recorded masks and nothing else.
    """

    def __init__(self, root: str | Path, *, subfolder: str = "") -> None:
        self.root = Path(root)
        self.subfolder = subfolder
        self.masks = self.root / subfolder
        self.record = self.root / "run.json"

    def claim(
        self, videos: Sequence[VideoLike], settings: dict[str, Any], *, overwrite: bool, shown: bool = True
    ) -> list[str]:
        """Make the folder this run's own; returns the videos whose results are removed because their inputs have changed.

        Raises `InputError`, and changes nothing, when it holds results made with other settings (what differs is named),
        or anything in the way that the record does not name.  With `overwrite` all recorded results are removed instead;
        what is not recorded is refused all the same.  What is read is never where results go.
        """
        self._refuse_inputs(videos)
        old = read_record(self.record) if os.path.lexists(self.record) else Record(settings, {})
        new = {}
        with progress_bar(len(videos), "videos", shown=shown) as bar:
            for video in videos:
                new[video.name] = Recorded(_digest_of_inputs(video), tuple(sorted(video.wanted)))
                bar.increment()
        present = {name for name in {*new, *old.videos} if os.path.lexists(self._path(name))}
        if foreign := present - old.videos.keys():
            raise InputError(f"{self._path(min(foreign))}: is in the way, since {self.record} does not name it; move it first")
        differing = sorted(key for key in settings.keys() | old.settings.keys() if settings.get(key) != old.settings.get(key))
        if differing and present and not overwrite:
            what = "; ".join(f"{key} was {old.settings.get(key)}, is {settings.get(key)}" for key in differing)
            raise InputError(f"{self.root}: holds results of another run ({what}); --overwrite replaces them")
        changed = {
            name for name in present & new.keys() if new[name].inputs is None or new[name].inputs != old.videos[name].inputs
        }
        stale = present if overwrite else changed
        unfinished = {video.name for video in videos if video.name in stale or not self.is_finished(video)}
        for name in stale | (unfinished & present):  # all of them before the first is removed
            refuse_foreign(self._path(name), old.videos[name].files)
        for name in stale:
            remove_folder(self._path(name), old.videos[name].files)
        if unfinished and old.videos:
            remove_files(self.root / name for name in (*SCORE_FILES, ARCHIVE))  # which were of other masks
        kept = {name: entry for name, entry in old.videos.items() if name in present - stale}
        self._write_record(Record(settings, {**kept, **new}))
        return [] if overwrite else sorted(changed)

    def folder(self, video: VideoLike) -> Path:
        return self._path(video.name)

    def is_finished(self, video: VideoLike) -> bool:
        folder = self.folder(video)
        return folder.is_dir() and all((folder / f"{name}.png").is_file() for name in video.wanted)

    def start(self, video: VideoLike) -> Path:
        """An empty folder to write into, which does not look finished whatever happens."""
        partial = self.masks / f".{video.name}.partial"
        self.discard(video, partial)
        make_folder(partial)
        return partial

    def discard(self, video: VideoLike, partial: Path) -> None:
        """Remove what `start` made."""
        remove_folder(partial, {f"{name}.png" for name in video.wanted})

    def finish(self, video: VideoLike, partial: Path) -> None:
        """Put what `start` made, now complete, where the results belong; raises `InputError` when something is in the way."""
        remove_folder(self.folder(video), {f"{name}.png" for name in video.wanted})
        os.replace(partial, self.folder(video))

    def zip(self, videos: Iterable[VideoLike]) -> Path:
        """`<root>/results.zip` for a benchmark server: paths as they lie below `root`."""
        path = self.root / ARCHIVE

        def write(file) -> None:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
                for video in videos:
                    for name in sorted(video.wanted):
                        mask = self.folder(video) / f"{name}.png"
                        archive.write(mask, mask.relative_to(self.root))

        write_atomically(path, write)
        return path

    def _path(self, name: str) -> Path:
        """The folder of a video's masks."""
        if name.startswith("."):
            raise InputError(
                f"{name}: expected a video whose name does not begin with a dot, since its results would be hidden"
            )
        return path_in(self.root, *filter(None, [self.subfolder]), name, source=self.root)

    def _refuse_inputs(self, videos: Iterable[VideoLike]) -> None:
        """Raises `InputError` when a file that is read lies where results go."""
        results = {self._path(video.name).resolve() for video in videos}
        for video in videos:
            for folder in {path.parent for path in (*video.masks.values(), *video.images)}:
                if folder.resolve() in results:
                    raise InputError(f"{folder}: is read, and results would go there; give another --output")

    def _write_record(self, record: Record) -> None:
        videos = {name: entry._asdict() for name, entry in sorted(record.videos.items())}
        content = {"format": RECORD_FORMAT, "version": RECORD_VERSION, "settings": record.settings, "videos": videos}
        write_atomically(self.record, lambda file: file.write((json.dumps(content, indent=1) + "\n").encode()))


def read_record(path: Path) -> Record:
    """`run.json`; raises `InputError` when anything in it is not as `ResultFolder` writes it."""
    content = read_json(path)

    def expect(good: bool, what: str, found: object) -> None:
        if not good:
            raise InputError(f"{path}: expected {what}, found {shorten(found)}; move the folder or give another --output")

    expect(
        isinstance(content, dict) and content.get("format") == RECORD_FORMAT,
        f"a record with format {RECORD_FORMAT!r}",
        content,
    )
    expect(content.get("version") == RECORD_VERSION, f"version {RECORD_VERSION}", content.get("version"))
    settings, videos = content.get("settings"), content.get("videos")
    expect(isinstance(settings, dict), "settings by name", settings)
    expect(isinstance(videos, dict), "videos by name", videos)
    recorded = {}
    for name, entry in videos.items():
        path_in(path.parent, name, source=path)
        expect(isinstance(entry, dict) and entry.keys() == set(Recorded._fields), f"inputs and frames of {name}", entry)
        inputs, frames = entry["inputs"], entry["frames"]
        expect(inputs is None or isinstance(inputs, str), f"a digest of {name}", inputs)
        expect(isinstance(frames, list), f"a list of the frames of {name}", frames)
        for frame in frames:
            path_in(path.parent, frame, source=path)
        recorded[name] = Recorded(inputs, tuple(frames))
    return Record(settings, recorded)


def _digest_of_inputs(video: VideoLike) -> str | None:
    """Of all frames and masks that a video is segmented from, their names and their roles."""
    masks = [video.masks[frame] for frame in sorted(video.masks)]
    salt = json.dumps([[path.name for path in video.images], sorted(video.masks), video.union, video.all_masks])
    try:
        return digest([*masks, *video.images], salt=salt)
    except InputError:
        return None  # which file cannot be read is said when its turn comes


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
                results.discard(video, partial)
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
    use_threads(threads)
    with Group() as group:
        make_segmenter = segmenter_maker(device_of(device))
        problem = None
        if group.rank == 0:
            try:
                for name in results.claim(videos, settings, overwrite=overwrite):
                    print(f"{name}: its frames or masks have changed since it was segmented; it is segmented again")
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
