"""A whole made-up video, segmented by ours and by somebody else's implementation in turns, each in a process of its own."""

import functools
import importlib.util
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from model import STCN, VideoSegmenter, load_for_inference
from model.onnx import OnnxNetwork
from scripts.benchmark.made_up import made_up_mask, made_up_video
from scripts.benchmark.videos import VideoJob
from util.device import device_of, use_threads
from util.errors import InputError
from util.progress import progress_bar

Segment = Callable[[list[np.ndarray], np.ndarray], Any]  # frames, (H, W, 3) uint8, and first mask (H, W) -> labels (T, H, W)


def measure_against(job: VideoJob, peer: Path, *, repeats: int) -> str:
    """Frames per second of ours and of the function `segment` in a Python file, and how much their labels agree.

    Raises `InputError` when there is no such file, and whatever it raises.
    """
    if not peer.is_file():
        raise InputError(f"{peer}: no such file")
    ways = {"ours": None, "theirs": peer}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    labels: dict[str, np.ndarray] = {}
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as ours, ProcessPoolExecutor(1, context) as theirs:
        pools = {"ours": ours, "theirs": theirs}
        with progress_bar(2 * (repeats + 1), "videos") as bar:
            for turn in range(repeats + 1):
                frames = job.frames if turn else min(2, job.frames)  # first a short one, which does not count
                for way, file in reversed(ways.items()):  # a bad file is told at once
                    took, labels[way] = pools[way].submit(run_once, job, file, frames).result()
                    seconds[way] += [took] if turn else []
                    bar.increment()
    one, other = (job.frames / statistics.median(seconds[way]) for way in ways)
    equal = 100 * np.mean(labels["ours"] == labels["theirs"])
    return (
        f"{job.size[0]}x{job.size[1]}, {job.objects} objects, {job.frames} frames: {one:.2f} frames/s, {peer} {other:.2f}, "
        f"ratio {one / other:.2f}, medians of {repeats}; equal labels at {equal:.2f} % of the pixels"
    )


def run_once(job: VideoJob, peer: Path | None, count: int) -> tuple[float, np.ndarray]:
    """In a worker process: seconds for `count` frames, without loading, and the labels (T, H, W)."""
    segment = _loaded(job, peer)
    picture = made_up_video(job.size)
    frames = [picture(t).copy() for t in range(count)]
    mask = made_up_mask(job.size, range(1, 1 + job.objects))
    begin = time.perf_counter()
    labels = np.asarray(segment(frames, mask))
    seconds = time.perf_counter() - begin
    shape = (count, *job.size)
    if labels.shape != shape or labels.dtype.kind not in "iub":
        raise InputError(f"{peer or 'ours'}: expected labels as integers {shape}, found {labels.dtype} {labels.shape}")
    return seconds, labels


@functools.cache
def _loaded(job: VideoJob, peer: Path | None) -> Segment:
    """Loaded once in each process."""
    use_threads(job.threads)
    if peer is None:
        network = load_for_inference(job.model, device_of(job.device), amp=job.amp, winograd=None)
        return functools.partial(segment_video, network, max_memory_frames=job.max_memory_frames)
    spec = importlib.util.spec_from_file_location("peer", peer)
    if spec is None or spec.loader is None:
        raise InputError(f"{peer}: expected a Python file, its name ending in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.segment


def segment_video(
    network: STCN | OnnxNetwork, frames: list[np.ndarray], mask: np.ndarray, *, max_memory_frames: int | None = None
) -> np.ndarray:
    """Our `Segment`."""
    segmenter = VideoSegmenter(network, max_memory_frames=max_memory_frames)
    labels = []
    for t, frame in enumerate(frames):
        probabilities = segmenter.step(frame, None if t else mask)
        assert probabilities is not None  # every frame is wanted
        labels.append(segmenter.to_labels(probabilities).cpu().numpy())
    return np.stack(labels)
