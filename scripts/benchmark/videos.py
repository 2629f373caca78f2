"""Whole made-up videos, ours and the plain way, each in a process of its own."""

import gc
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cv2
import torch
from matplotlib.figure import Figure
from progressbar import ProgressBar

from evaluation.tables import write_figure
from model import VideoSegmenter, load_network
from model.plain import PlainBank, segment_plainly
from scripts.benchmark.made_up import grid_of, made_up_mask, made_up_video
from util.device import device_of, peak_memory
from util.progress import progress_bar
from util.tensors import normalise

PROCESS = Path("/proc/self")  # Linux
PARTS = 10  # of a long video, each timed


class VideoJob(NamedTuple):
    """A made-up video, and how it is segmented."""

    way: str  # ours or plain
    model: str
    size: tuple[int, int]
    frames: int
    objects: int
    late: int  # of the objects, so many enter in the middle
    memory: int  # made-up frames in memory before the first
    max_memory_frames: int | None
    amp: bool
    device: str
    threads: int | None


class VideoResult(NamedTuple):
    seconds: list[float]  # of each frame; of all of them for the plain way
    peak_bytes: list[int]  # after each frame: memory that the process has needed so far, beyond what the network takes

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.seconds)

    @property
    def mib(self) -> float:
        """The peak."""
        return max(self.peak_bytes) / 2**20


def in_both_ways(jobs: Sequence[VideoJob], bar: ProgressBar) -> tuple[list[VideoResult], list[VideoResult]]:
    """Ours and the plain way of each job, in turns."""
    ours, plain = [], []
    for job in jobs:
        for way, found in (("ours", ours), ("plain", plain)):
            found.append(in_own_process(job._replace(way=way)))
            bar.increment()
    return ours, plain


def measure_video(job: VideoJob, *, repeats: int) -> str:
    """Frames per second and peak memory, ours and plainly."""
    with progress_bar(2 * repeats, "videos") as bar:
        results = in_both_ways([job] * repeats, bar)
    ours, plain = (statistics.median(result.total for result in found) for found in results)
    ours_mib, plain_mib = (max(result.mib for result in found) for found in results)
    return (
        f"{job.size[0]}x{job.size[1]}, {job.objects} objects of which {job.late} enter late, {job.frames} frames after "
        f"{job.memory} in memory: "
        f"{job.frames / ours:.2f} frames/s, plainly {job.frames / plain:.2f}, {plain / ours:.2f} times as fast; peak memory "
        f"{ours_mib:.0f} MiB, plainly {plain_mib:.0f} MiB"
    )


def measure_growth(job: VideoJob, picture: Path) -> str:
    """Seconds of a video and its peak memory as frames, objects and pixels grow, as a table; the plot goes to `picture`."""
    height, width = job.size
    scales = (0.5, 0.75, 1.0, 1.5)
    series = {
        "frames": [(n, job._replace(frames=n)) for n in (job.frames // 4, job.frames // 2, job.frames, 2 * job.frames)],
        "objects": [(n, job._replace(objects=n, late=0)) for n in (1, 2, 4, 8)],
        "pixels": [(int(height * width * s * s), job._replace(size=(int(height * s), int(width * s)))) for s in scales],
    }
    lines = [f"{'':<9}{'':>10}{'s':>8}{'plainly':>9}{'MiB':>7}{'plainly':>9}"]
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, len(series))
    with progress_bar(2 * sum(map(len, series.values())), "videos") as bar:
        for (name, jobs), (above, below) in zip(series.items(), axes.T, strict=True):
            numbers = [number for number, _ in jobs]
            ours, plain = in_both_ways([variant for _, variant in jobs], bar)
            for way, found in (("ours", ours), ("plain", plain)):
                above.plot(numbers, [result.total for result in found], "o-", label=way)
                below.plot(numbers, [result.mib for result in found], "o-", label=way)
            for axis, unit in ((above, "seconds"), (below, "MiB")):
                axis.set(xlabel=name, ylabel=unit, ylim=(0, None))
                axis.legend()
            for n, one, other in zip(numbers, ours, plain, strict=True):
                lines.append(f"{name:<9}{n:>10}{one.total:>8.2f}{other.total:>9.2f}{one.mib:>7.0f}{other.mib:>9.0f}")
    write_figure(picture, figure)
    return "\n".join([*lines, f"plot: {picture}"])


def measure_long_video(job: VideoJob, picture: Path | None) -> str:
    """Time of a frame and peak memory as a video goes on, as a table; a plot of a hundred windows goes to `picture`."""
    result = in_own_process(job._replace(way="ours"))
    bound = job.max_memory_frames or "all"
    title = f"{job.size[0]}x{job.size[1]}, {bound} frames in memory"

    def windows(count: int) -> list[tuple[int, float, float]]:
        """Where each window ends, the median ms of its frames, and the peak MiB so far."""
        step = max(1, job.frames // count)
        ends = range(step, job.frames + 1, step)
        return [(t, 1000 * statistics.median(result.seconds[t - step : t]), result.peak_bytes[t - 1] / 2**20) for t in ends]

    lines = [f"{'frames':>8}{'ms a frame':>12}{'peak MiB':>10}   {title}"]
    lines += [f"{end:>8}{ms:>12.1f}{mib:>10.0f}" for end, ms, mib in windows(PARTS)]
    if picture is not None:
        figure = Figure(figsize=(10, 3.5), layout="constrained")
        ends, *columns = zip(*windows(100), strict=True)
        for axis, column, unit in zip(figure.subplots(1, 2), columns, ("ms a frame", "peak MiB so far"), strict=True):
            axis.plot(ends, column)
            axis.set(title=title, xlabel="frames", ylabel=unit, ylim=(0, None))
        write_figure(picture, figure)
        lines.append(f"plot: {picture}")
    return "\n".join(lines)


def in_own_process(job: VideoJob) -> VideoResult:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_video, job).result()


def run_video(job: VideoJob) -> VideoResult:
    """In a process of its own, so that peak memory is the job's own."""
    if job.threads:
        torch.set_num_threads(job.threads)
    device = device_of(job.device)
    cv2.setNumThreads(1)
    network = load_network(job.model).to(device)
    if job.way == "ours":
        network = network.for_inference(amp=job.amp, winograd=None)
    early = range(1, 1 + job.objects - job.late)
    masks = {0: made_up_mask(job.size, early)}
    if job.late:
        masks[job.frames // 2] = made_up_mask(job.size, range(early.stop, 1 + job.objects))
    picture = made_up_video(job.size)
    grid, generator = grid_of(job.size), torch.Generator().manual_seed(0)
    keys = torch.randn(job.memory, network.config.key_dim, *grid, generator=generator).to(device)
    value = torch.randn(job.objects, network.config.value_dim, *grid, generator=generator).to(device)
    if device.type == "cuda":  # whose first operations take seconds
        VideoSegmenter(network).step(picture(0), masks[0])
    start_bytes = peak_from_now(device)

    def frame(t: int) -> torch.Tensor:
        return normalise(torch.from_numpy(picture(t)).to(device))

    if job.way == "plain":

        class Bank(PlainBank):
            def __init__(self) -> None:
                super().__init__()
                self.keys += keys.flatten(2)
                self.values += [value.flatten(2)] * job.memory

        begin = time.perf_counter()
        given = {t: torch.from_numpy(mask).to(device) for t, mask in masks.items()}
        with mock.patch("model.plain.PlainBank", Bank):
            results = segment_plainly(network, torch.stack([frame(t) for t in range(job.frames)]), given)
        for _, probabilities in results:
            probabilities.argmax(dim=0).byte().cpu()
        return VideoResult([time.perf_counter() - begin], [peak_bytes(device) - start_bytes])
    segmenter = VideoSegmenter(network, max_memory_frames=job.max_memory_frames)
    for key in keys:
        segmenter.bank.add(key, value)
    seconds, peaks = [], []
    for t in range(job.frames):
        begin = time.perf_counter()
        mask = masks.get(t)
        probabilities = segmenter.step(frame(t), mask)
        assert probabilities is not None  # every frame is wanted
        segmenter.to_labels(probabilities).cpu()
        seconds.append(time.perf_counter() - begin)
        peaks.append(peak_bytes(device) - start_bytes)
    return VideoResult(seconds, peaks)


def peak_from_now(device: torch.device) -> int:
    """Forget what has been needed before, where the system can; the bytes in use now."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif PROCESS.exists():
        (PROCESS / "clear_refs").write_text("5")  # resets what `peak_bytes` reads
    return peak_bytes(device)


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda" or not PROCESS.exists():
        return peak_memory()[1]
    (line,) = (line for line in (PROCESS / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])
