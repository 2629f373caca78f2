"""Whole made-up videos, ours and the plain way, each in a process of its own."""

import gc
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import torch
from matplotlib.figure import Figure

from evaluation.tables import write_figure
from model import VideoSegmenter, load_network
from model.plain import segment_plainly
from scripts.benchmark.made_up import made_up_mask, made_up_video
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
    max_memory_frames: int | None
    amp: bool
    device: str
    threads: int | None


class VideoResult(NamedTuple):
    seconds: list[float]  # of each frame; of all of them for the plain way
    peak_bytes: list[int]  # after each frame: memory that the process has needed so far, beyond what the network takes


def measure_video(job: VideoJob, *, repeats: int) -> str:
    """Frames per second and peak memory, ours and plainly."""
    found: dict[str, list[VideoResult]] = {"ours": [], "plain": []}
    with progress_bar(2 * repeats, "videos") as bar:
        for _ in range(repeats):  # in turns
            for way, results in found.items():
                results.append(in_own_process(job._replace(way=way)))
                bar.increment()
    ours, plain = (statistics.median(sum(result.seconds) for result in results) for results in found.values())
    ours_mib, plain_mib = (max(max(result.peak_bytes) for result in results) / 2**20 for results in found.values())
    return (
        f"{job.size[0]}x{job.size[1]}, {job.objects} objects of which {job.late} enter late, {job.frames} frames: "
        f"{job.frames / ours:.2f} frames/s, plainly {job.frames / plain:.2f}, {plain / ours:.2f} times as fast; peak memory "
        f"{ours_mib:.0f} MiB, plainly {plain_mib:.0f} MiB"
    )


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
    if device.type == "cuda":  # whose first operations take seconds
        VideoSegmenter(network).step(picture(0), masks[0])
    start_bytes = peak_from_now(device)

    def frame(t: int) -> torch.Tensor:
        return normalise(torch.from_numpy(picture(t)).to(device))

    if job.way == "plain":
        begin = time.perf_counter()
        given = {t: torch.from_numpy(mask).to(device) for t, mask in masks.items()}
        frames = torch.stack([frame(t) for t in range(job.frames)])
        for _, probabilities in segment_plainly(network, frames, given):
            probabilities.max(dim=0).indices.byte().cpu()
        return VideoResult([time.perf_counter() - begin], [peak_bytes(device) - start_bytes])
    segmenter = VideoSegmenter(network, max_memory_frames=job.max_memory_frames)
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
