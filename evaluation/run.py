"""The evaluation loop: segments videos into folders of masks, each written whole or not at all."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset.video import Video
from evaluation.fits import refuse_too_large
from evaluation.flags import network_options, segmenter_options
from evaluation.results import ResultFolder
from model import STCN, NetworkConfig, VideoSegmenter, load_for_inference, load_network
from model.checkpoint import digest
from model.fast import describe_arithmetic
from model.views import MultiViewSegmenter, View
from util.ahead import map_ahead
from util.device import device_of, half_precision_chosen, peak_memory, use_threads
from util.distributed import Processes
from util.errors import InputError, one_line
from util.image import image_size
from util.progress import progress_bar

Segmenter = VideoSegmenter | MultiViewSegmenter
LARGE = 480  # pixels, the size that the paper trains for
WAITING_MASKS = 16  # maximum number of results waiting to be written


class Summary(NamedTuple):
    """A summary of a run over all processes."""

    frames: int  # that were processed, up to each video's last result
    results: int
    seconds: float  # of processing, without reading and writing, summed over processes
    wall_seconds: float
    peak_bytes: int  # the largest of any process: CUDA memory, or resident memory of the process; 0 if it is not known
    peak_of: str
    finished_before: int  # number of videos
    failures: list[str]

    def __str__(self) -> str:
        lines = []
        if self.finished_before:
            lines.append(f"{self.finished_before} videos were already finished and are kept")
        if self.frames:
            lines.append(
                f"{self.frames} frames{f', {self.results} results' if self.results < self.frames else ''}: "
                f"{self.frames / self.seconds:.2f} frames per second of processing, "
                f"{self.frames / self.wall_seconds:.2f} from end to end"
            )
        if self.peak_bytes:
            lines.append(f"peak {self.peak_of} memory: {self.peak_bytes / 2**20:.0f} MiB")
        lines += [f"failed: {failure}" for failure in self.failures]
        return "\n".join(lines)


def evaluate(
    videos: list[Video],
    make_segmenter: Callable[[], Segmenter],
    results: ResultFolder,
    processes: Processes,
    *,
    workers: int = 2,
    check_memory: bool = True,
    shown: bool = True,
) -> Summary | None:
    """Segment the unfinished videos, divided among `processes`.

    `make_segmenter` returns a fresh segmenter for each video.  A video that cannot be read, or with `check_memory` would
    need more memory than there is, fails alone and is named in the summary.  Rank 0 returns the summary; other ranks return
    `None`.  `shown` draws a progress bar.
    """
    start = time.perf_counter()
    # rank 0 decides which videos are finished, so that all ranks agree
    finished = processes.broadcast({video.name for video in videos if results.is_finished(video)})
    mine = share([video for video in videos if video.name not in finished], processes.world)[processes.rank]
    frames, written, seconds, failures = 0, 0, 0.0, []
    with progress_bar(sum(map(len, mine)), "frames", shown=shown and processes.rank == 0 and bool(mine)) as bar:
        for video in mine:
            unfinished = results.start(video)
            before = bar.value or 0
            try:
                segmenter = make_segmenter()
                if check_memory:
                    objects, given = video.count_objects()
                    size = image_size(video.images[0])
                    refuse_too_large(segmenter, size, objects=objects, frames=len(video), given=given)
                more, took = segment_video(video, segmenter, unfinished, workers=workers, on_frame=bar.increment)
            except InputError as error:
                failures.append(f"{video.name}: {error}")
                results.discard(video, unfinished)
                continue
            finally:
                bar.update(before + len(video))  # frames after the last wanted one are not read
            results.finish(video, unfinished)
            frames, written, seconds = frames + more, written + len(video.wanted), seconds + took
    peak_of, peak_bytes = peak_memory()
    parts = processes.gather((frames, written, seconds, peak_bytes, failures))
    if not parts:
        return None
    all_frames, all_results, all_seconds, peaks, all_failures = zip(*parts, strict=True)
    return Summary(
        frames=sum(all_frames),
        results=sum(all_results),
        seconds=sum(all_seconds),
        wall_seconds=time.perf_counter() - start,
        peak_bytes=max(peaks),
        peak_of=peak_of,
        finished_before=len(finished),
        failures=sorted(failure for failures in all_failures for failure in failures),
    )


def run_benchmark(
    videos: list[Video],
    results: ResultFolder,
    settings: dict[str, Any],
    *,
    models: Sequence[str | Path],
    segmenter: dict[str, Any],
    network: dict[str, Any],
    amp: str,
    sizes: Sequence[int] | None = None,
    flip: bool = False,
    kernel: str = "none",
    device: str = "auto",
    overwrite: bool = False,
    zipped: bool = False,
    workers: int = 2,
    check_memory: bool = True,
    threads: int | None = None,
    warning: str = "",
    failed: Sequence[str] = (),
) -> Summary | None:
    """The part of an evaluation script between flags and scores; every process calls it.

    models:    checkpoints, whose probabilities are averaged; they are read before `results` is touched
    segmenter: options of `VideoSegmenter`
    network:   options of `STCN.for_inference`; what rank 0 finds for a `winograd` of `None` is recorded, and all ranks do so
    amp:       `on`, `off`, or `auto`: half precision where the hardware has it, except for the paper's network,
               whose results are compared with published ones
    sizes:     the network works at each of these instead of `segmenter`'s size, and the probabilities are averaged
    flip:      at each size, also average with the results of the flipped frames
    kernel:    read the memory with a Gaussian (section E): "none", "large" for sizes above 480, "all"
    settings:  what else the results depend on; with the models' digests and the above, it must match existing results
    zipped:    also write the archive for the benchmark server, unless a video failed
    check_memory: as for `evaluate`
    threads:   number of PyTorch's CPU threads (`use_threads`)
    warning:   a line about the data, for standard error
    failed:    videos that cannot be segmented, with the reason, for the summary

    Prints a description of the run and the summary.  Returns the summary on rank 0, else `None`.
    """
    use_threads(threads)
    # `None` as in records from before there were views
    views = {"sizes": list(sizes) if sizes else None, "flip": flip or None, "kernel": None if kernel == "none" else kernel}
    which, settings = settings, {"model": " ".join(map(digest, models)), **segmenter, **views, **settings}
    with Processes() as processes:
        where = device_of(device)
        loaded = [load_network(model, where) for model in models]
        if amp == "auto" and any(one.config == NetworkConfig() for one in loaded):
            amp = "off"
        settings["amp"] = half_precision_chosen(amp, where)

        def prepared(winograd: bool | None) -> list[STCN]:
            options = {**network, "amp": settings["amp"], "winograd": winograd}
            return [one.for_inference(**options) for one in loaded]

        networks = prepared(network.get("winograd", True)) if processes.rank == 0 else []
        chosen = [one.winograd for one in networks if one.winograd is not None]
        settings["winograd"] = processes.broadcast(chosen[0] if chosen else None)
        networks = networks or prepared(settings["winograd"])
        make_segmenter = segmenter_of(networks, sizes, flip, kernel, **segmenter)
        problem = None
        if processes.rank == 0:
            try:
                if zipped:
                    results.refuse_to_zip(videos)
                for name in results.claim(videos, settings, overwrite=overwrite):
                    print(f"{name}: its frames or masks have changed since it was segmented; segmenting it again")
            except InputError as error:
                problem = error
        if problem := processes.broadcast(problem):  # else the other ranks would wait forever
            raise problem
        if processes.rank == 0:
            for model, one, ready in zip(models, loaded, networks, strict=True):
                millions = sum(weight.numel() for weight in one.parameters()) / 1e6
                print(f"network: {model}, {millions:.1f} M parameters, {describe_arithmetic(ready)}, {ready.config}")
            what = ", ".join(f"{name} {value}" for name, value in which.items() if value is not False)
            print(f"data: {len(videos)} videos, {sum(map(len, videos))} frames ({what})")
            if warning:
                print(f"warning: {one_line(warning)}", file=sys.stderr)
        summary = evaluate(videos, make_segmenter, results, processes, workers=workers, check_memory=check_memory)
    if summary is not None:
        summary = summary._replace(failures=sorted([*summary.failures, *failed]))
        print(summary)
        print(f"masks: {results.masks}")
        if zipped and not summary.failures:
            path, count = results.zip()
            print(f"archive: {path}, {count} videos")
    return summary


def segmenter_by_flags(arguments: argparse.Namespace, *records: Path) -> tuple[Callable[[], VideoSegmenter], dict[str, Any]]:
    """What makes a segmenter for each video as the flags of a script say, and, as JSON values, what its results depend on.

    `records` are as for `network_options`.  Raises `InputError` if the device or the checkpoint cannot be used.
    """
    device = device_of(arguments.device)
    use_threads(arguments.threads)
    options, amp = segmenter_options(arguments), half_precision_chosen(arguments.amp, device)
    network = load_for_inference(arguments.model, device, amp=amp, **network_options(arguments, *records))
    how = {"amp": amp, "winograd": network.winograd, "compile": arguments.compile, "device": device.type}
    settings = {**options, **how, "model": digest(arguments.model)}
    return partial(VideoSegmenter, network, **options), settings


def segmenter_of(
    networks: Sequence[STCN],
    sizes: Sequence[int] | None = None,
    flip: bool = False,
    kernel: str = "none",
    *,
    size: int | None = None,
    **options: Any,
) -> Callable[[], Segmenter]:
    """What makes a segmenter for each video: of a single view, or of every network at every size, flipped too with `flip`.

    Raises `InputError` for a `kernel` of large sizes when the size is not told.
    """
    views = []
    for network in networks:
        for side in sizes or [size]:
            if kernel == "large" and side is None:
                raise InputError("--kernel large: goes by the size; give it with --size or --sizes")
            with_kernel = kernel == "all" or (kernel == "large" and (side or 0) > LARGE)
            views += [View(network, side, flipped, with_kernel) for flipped in ((False, True) if flip else (False,))]
    if kernel == "large" and not any(view.kernel for view in views):
        raise InputError(f"--kernel: is for sizes above {LARGE}, of which there is none; --kernel all uses it everywhere")
    if len(views) == 1:
        return partial(VideoSegmenter, views[0].network, size=views[0].size, kernel=views[0].kernel, **options)
    return partial(MultiViewSegmenter, views, **options)


def segment_video(
    video: Video,
    segmenter: Segmenter,
    folder: Path,
    *,
    workers: int = 2,
    on_frame: Callable[[], Any] = lambda: None,
) -> tuple[int, float]:
    """Write the wanted masks of one video into `folder`; returns how many frames that took, up to the last of them, and the
    seconds of processing, without reading and writing.
    """
    frames, seconds = 0, 0.0

    def results() -> Iterator[tuple[Path, np.ndarray]]:
        nonlocal frames, seconds
        for frame in video.frames(workers=workers):
            start = time.perf_counter()
            probabilities = segmenter.step(frame.image, frame.mask, frame.wanted)
            labels = None
            if frame.wanted and probabilities is not None:
                labels = segmenter.to_labels(probabilities).cpu().numpy()
            seconds += time.perf_counter() - start
            if labels is not None:
                yield folder / f"{frame.name}.png", labels
            frames += 1
            on_frame()

    with ThreadPoolExecutor(max(1, workers)) as writers:
        for _ in map_ahead(writers, lambda result: video.write_mask(*result), results(), limit=WAITING_MASKS):
            pass
    return frames, seconds


def share(videos: list[Video], ranks: int) -> list[list[Video]]:
    """Divide the videos among ranks: longest first, each to the rank with the fewest frames so far."""
    shares: list[list[Video]] = [[] for _ in range(ranks)]
    for video in sorted(videos, key=lambda video: (-len(video), video.name)):
        min(shares, key=lambda share: sum(map(len, share))).append(video)
    return shares
