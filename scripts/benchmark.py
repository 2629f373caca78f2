"""Measure what the project does; it reports and judges nothing.

python scripts/benchmark.py --data --static_root ../static --davis_root ../DAVIS/2017
python scripts/benchmark.py --read --size 480x854 --objects 3 --memory 40
python scripts/benchmark.py --video --size 480x854 --objects 5 --late 2 --frames 50 --repeats 1
"""

import argparse
import gc
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import cv2
import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as tf
from matplotlib import pyplot
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from tps import ThinPlateSpline

from dataset.stages import STAGES, Draws, add_crop_flag, add_data_flags, data_roots, max_skip, stage_sources
from dataset.transforms import Jitter, Spline, View, apply_view
from evaluation.metrics import score_masks
from model import STCN, MemoryBank, VideoSegmenter, load_for_inference, load_network, save_network
from model.losses import clip_losses
from model.network import soft_aggregate
from model.plain import PlainBank, read_plainly, segment_plainly
from util.device import device_of, peak_memory
from util.errors import InputError, one_line_errors
from util.files import write_atomically
from util.flags import DefaultsFormatter, first_line, non_negative_int, positive_int
from util.image import MEAN_COLOUR, STRIDE, normalise, padding_to_stride
from util.progress import progress_bar

PROCESS = Path("/proc/self")  # Linux
STRIPES = 10  # objects in a made-up mask, at most
PARTS = 10  # of a long video, each timed

matplotlib.use("agg")  # draws into files, on machines without a screen too


def step_by_step(view: View, image: np.ndarray, labels: np.ndarray, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """`apply_view` as a chain of Pillow and torchvision calls, each of which interpolates: the usual way to write it."""
    picture, mask = Image.fromarray(image), Image.fromarray(labels)
    canvases = [(step.canvas[1], step.canvas[0]) for step in view.warps[1:]] + [(crop, crop)]
    for step, size in zip(view.warps, canvases, strict=True):
        (a, b, c), (d, e, f) = step.matrix
        box = np.array([c, f, a * size[0] + c, e * size[1] + f])
        within = np.clip(box, 0, [picture.width, picture.height] * 2)
        if b == d == 0 and a > 0 and np.abs(box - within).max() < 1e-6:  # a region becomes the whole
            box = tuple(within)
            picture = picture.resize(size, Image.Resampling.BICUBIC, box=box)
            mask = mask.resize(size, Image.Resampling.NEAREST, box=box)
        else:
            where = (size, Image.Transform.AFFINE, (a, b, c, d, e, f))
            picture = picture.transform(*where, Image.Resampling.BICUBIC, fillcolor=MEAN_COLOUR)
            mask = mask.transform(*where, Image.Resampling.NEAREST, fillcolor=0)
    if view.spline is not None:
        picture, mask = _spline(view.spline, np.asarray(picture), np.asarray(mask))
    picture = _jitter(picture, view.shared_jitter)
    if view.greyscale:
        picture = tf.rgb_to_grayscale(picture, num_output_channels=3)
    picture = _jitter(picture, view.jitter)
    return np.asarray(picture), np.asarray(mask)


def _spline(spline: Spline, image: np.ndarray, labels: np.ndarray) -> tuple[Image.Image, Image.Image]:
    side = len(labels)
    centres = (np.arange(side) + 0.5) / side
    places = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    model = ThinPlateSpline()
    model.fit(spline.points + spline.displacements, spline.points)
    x, y = (side * model.transform(places)).astype(np.float32).T.reshape(2, side, side)
    filled = (cv2.BORDER_CONSTANT, MEAN_COLOUR)
    image = cv2.remap(image, x - 0.5, y - 0.5, cv2.INTER_CUBIC, None, *filled)
    labels = cv2.remap(labels, x - 0.5, y - 0.5, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, 0)
    return Image.fromarray(image), Image.fromarray(labels)


def _jitter(picture: Image.Image, jitter: Jitter) -> Image.Image:
    changes = (
        lambda p: tf.adjust_brightness(p, jitter.brightness),
        lambda p: tf.adjust_contrast(p, jitter.contrast),
        lambda p: tf.adjust_saturation(p, jitter.saturation),
        lambda p: tf.adjust_hue(p, jitter.hue) if jitter.hue else p,
    )
    for number in jitter.order:
        picture = changes[number](picture)
    return picture


def measure_data(roots: dict[str, str | None], *, crop: int, repeats: int) -> str:
    """Samples per second of one core for each stage whose data is there, beside the step-by-step chain."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    lines = [f"{'stage':<7}{'samples/s':>10}{'step by step':>14}{'ratio':>7}   median of {repeats} samples, one core"]
    ways = {"composed": apply_view, "chain": step_by_step}
    for number, stage in enumerate(STAGES):
        try:
            sources = stage_sources(number, roots, crop=crop)
        except InputError as error:
            lines.append(f"{number:<7}left out: {error}")
            continue
        draws = Draws(sources, seed=0, max_skip=lambda draw, stage=stage: max_skip(stage, 0.4))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        with progress_bar(repeats, f"samples of stage {number}") as bar:
            for draw in range(repeats):
                for way, apply in ways.items():  # interleaved, since the machine is shared
                    with mock.patch("dataset.static.apply_view", apply), mock.patch("dataset.vos.apply_view", apply):
                        start = time.perf_counter()
                        draws[draw]
                        seconds[way].append(time.perf_counter() - start)
                bar.increment()
        ours, chain = (statistics.median(seconds[way]) for way in ways)
        lines.append(f"{number:<7}{1 / ours:>10.1f}{1 / chain:>14.1f}{chain / ours:>7.1f}")
    return "\n".join(lines)


def made_up_frame(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth noise, (H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def made_up_mask(size: tuple[int, int], ids: range) -> np.ndarray:
    """A label map with an upright stripe for each id."""
    labels = np.zeros(size, dtype=np.uint8)
    for number in ids:
        left = (2 * number - 1) * size[1] // (2 * STRIPES + 1)
        labels[size[0] // 4 : 3 * size[0] // 4, left : left + size[1] // (2 * STRIPES + 1)] = number
    return labels


class Stopwatch:
    """Seconds between calls, by name; on CUDA between events."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.parts: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        if self.cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = work()
            end.record()
            torch.cuda.synchronize()
            seconds = start.elapsed_time(end) / 1000
        else:
            begin = time.perf_counter()
            result = work()
            seconds = time.perf_counter() - begin
        self.parts.setdefault(name, []).append(seconds)
        return result

    def median(self, name: str) -> float:
        return statistics.median(self.parts[name])


@torch.inference_mode()
def measure_parts(network: STCN, *, size: tuple[int, int], objects: int, memory: int, repeats: int) -> str:
    """The paper's Figure 5: milliseconds of each part of a frame."""
    device = next(network.parameters()).device
    watch = Stopwatch(device)
    frame = normalise(torch.from_numpy(made_up_frame(size)).to(device))
    padded = F.pad(frame, padding_to_stride(*size))[None]
    masks = torch.rand(1, objects, *padded.shape[2:], device=device)
    features = network.encode_key(padded)
    values = network.encode_value(padded, masks, features)[0]
    bank = MemoryBank(similarity=network.config.similarity)
    for _ in range(memory):
        bank.add(features.key[0] + 0.1 * torch.randn_like(features.key[0]), values)
    for _ in range(repeats + 1):
        features = watch.time("key encoding", partial(network.encode_key, padded))
        watch.time("value encoding, every 5th frame", partial(network.encode_value, padded, masks, features))
        read = watch.time("affinity matching and readout", partial(bank.read, features.key[0]))
        logits = watch.time("decoding", partial(network.decode, read[None], features))
        watch.time("the rest: aggregation, labels", lambda logits=logits: _labels(logits[0]))
    lines = [f"{'part':<36}{'ms':>9}   {size[0]}x{size[1]}, {objects} objects, {memory} memory frames, median of {repeats}"]
    for name, seconds in watch.parts.items():
        lines.append(f"{name:<36}{1000 * statistics.median(seconds[1:]):>9.1f}")
    return "\n".join(lines)


def _labels(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(soft_aggregate(torch.sigmoid(logits), dim=0), dim=0).argmax(dim=0)


@torch.inference_mode()
def measure_read(*, size: tuple[int, int], objects: int, memory: int, repeats: int, device: torch.device) -> str:
    """Reading the memory, ours and plainly, in turns: time, and the memory that it needs beside its input and result."""
    height, width = (-(-side // STRIDE) for side in size)
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(memory, 64, height, width, generator=generator).to(device)
    values = torch.randn(memory, objects, 512, height, width, generator=generator).to(device)
    query = torch.randn(64, height, width, generator=generator).to(device)
    bank = MemoryBank()
    for key, value in zip(keys, values, strict=True):
        bank.add(key, value)
    flat_keys = keys.flatten(2).transpose(0, 1).flatten(1)  # (Ck, M)
    flat_values = values.flatten(3).permute(1, 2, 0, 3).flatten(2)  # (N, Cv, M)
    ways = {
        "ours": partial(bank.read, query),
        "plain": partial(read_plainly, flat_keys, flat_values, query.flatten(1), 20),
    }
    torch.testing.assert_close(ways["ours"]().flatten(2), ways["plain"](), atol=1e-3, rtol=0)
    extra = {way: _largest_extra(work, device) for way, work in ways.items()}
    watch = Stopwatch(device)
    for _ in range(repeats):
        for way, work in ways.items():
            watch.time(way, work)
    ours, plain = (watch.median(way) for way in ways)
    return (
        f"{size[0]}x{size[1]}, {objects} objects, {memory:>3} memory frames: {1000 * ours:.0f} ms, plainly "
        f"{1000 * plain:.0f} ms, {plain / ours:.1f} times faster; extra memory {extra['ours'] / 2**20:.0f} MiB, plainly "
        f"{extra['plain'] / 2**20:.0f} MiB, 1/{extra['plain'] / extra['ours']:.0f}"
    )


def _largest_extra(work: Callable[[], Any], device: torch.device) -> int:
    """Bytes allocated at once while it runs, beside its result."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = work()
        return torch.cuda.max_memory_allocated(device) - before - result.nbytes
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    held = largest = 0  # the result is still held at the end, and is not extra
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            largest = max(largest, held)
    return largest - result.nbytes


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
    device: str
    threads: int | None


class VideoResult(NamedTuple):
    seconds: list[float]  # of each frame; of all of them for the plain way
    peak_bytes: list[int]  # after each frame: memory that the process has needed so far, beyond what the network takes


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


def run_video(job: VideoJob) -> VideoResult:
    """In a process of its own, so that peak memory is the job's own."""
    if job.threads:
        torch.set_num_threads(job.threads)
    device = device_of(job.device)
    cv2.setNumThreads(1)
    network = load_network(job.model).to(device)
    if job.way == "ours":
        network = network.for_inference()
    early = range(1, 1 + job.objects - job.late)
    masks = {0: made_up_mask(job.size, early)}
    if job.late:
        masks[job.frames // 2] = made_up_mask(job.size, range(early.stop, 1 + job.objects))
    canvas = made_up_frame((job.size[0], job.size[1] + 64))
    generator = torch.Generator().manual_seed(0)
    grid = tuple(-(-side // STRIDE) for side in job.size)
    config = network.config
    keys = torch.randn(job.memory, config.key_dim, *grid, generator=generator).to(device)
    value = torch.randn(job.objects, config.value_dim, *grid, generator=generator).to(device)
    start_bytes = peak_from_now(device)

    def frame(t: int) -> torch.Tensor:
        left = round(32 + 31 * np.sin(t / 9))
        return normalise(torch.from_numpy(canvas[:, left : left + job.size[1]]).to(device))

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
        segmenter.to_labels(segmenter.step(frame(t), mask)).cpu()
        seconds.append(time.perf_counter() - begin)
        peaks.append(peak_bytes(device) - start_bytes)
    return VideoResult(seconds, peaks)


def in_own_process(job: VideoJob) -> VideoResult:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_video, job).result()


def measure_video(job: VideoJob, *, repeats: int) -> str:
    """Ours and the plain way in turns: frames per second and peak memory."""
    results: dict[str, list[VideoResult]] = {"ours": [], "plain": []}
    with progress_bar(2 * repeats, "videos") as bar:
        for _ in range(repeats):
            for way, found in results.items():
                found.append(in_own_process(job._replace(way=way)))
                bar.increment()
    ours, plain = (statistics.median(sum(result.seconds) for result in found) for found in results.values())
    peaks = {way: max(max(result.peak_bytes) for result in found) for way, found in results.items()}
    return (
        f"{job.size[0]}x{job.size[1]}, {job.objects} objects of which {job.late} enter late, {job.frames} frames after "
        f"{job.memory} in memory: "
        f"{job.frames / ours:.2f} frames/s, plainly {job.frames / plain:.2f}, {plain / ours:.2f} times faster; peak memory "
        f"{peaks['ours'] / 2**20:.0f} MiB, plainly {peaks['plain'] / 2**20:.0f} MiB"
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
    figure, axes = pyplot.subplots(2, len(series), figsize=(12, 6))
    with progress_bar(2 * sum(map(len, series.values())), "videos") as bar:
        for column, (name, jobs) in enumerate(series.items()):
            found: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
            for _, variant in jobs:
                for way, figures in found.items():
                    result = in_own_process(variant._replace(way=way))
                    figures.append((sum(result.seconds), max(result.peak_bytes) / 2**20))
                    bar.increment()
            numbers = [number for number, _ in jobs]
            for row, unit in enumerate(("seconds", "MiB")):
                for way, figures in found.items():
                    axes[row, column].plot(numbers, [entry[row] for entry in figures], "o-", label=way)
                axes[row, column].set(xlabel=name, ylabel=unit, ylim=(0, None))
                axes[row, column].legend()
            for number, ours, plain in zip(numbers, *found.values(), strict=True):
                lines.append(f"{name:<9}{number:>10}{ours[0]:>8.2f}{plain[0]:>9.2f}{ours[1]:>7.0f}{plain[1]:>9.0f}")
    figure.tight_layout()
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png")
    write_atomically(picture, lambda file: file.write(encoded.getbuffer()))
    return "\n".join([*lines, f"plot: {picture}"])


def measure_long_video(job: VideoJob) -> str:
    """Time of a frame and peak memory as a video goes on."""
    result = in_own_process(job._replace(way="ours"))
    bound = job.max_memory_frames or "all"
    lines = [f"{'frames':>8}{'ms a frame':>12}{'peak MiB':>10}   {job.size[0]}x{job.size[1]}, {bound} frames in memory"]
    step = job.frames // PARTS
    for end in range(step, job.frames + 1, step):
        window = result.seconds[end - step : end]
        lines.append(f"{end:>8}{1000 * statistics.median(window):>12.1f}{result.peak_bytes[end - 1] / 2**20:>10.0f}")
    return "\n".join(lines)


def measure_training(network: STCN, *, crop: int, batch: int, objects: int, repeats: int, device: torch.device) -> str:
    """Training steps on made-up clips, without data loading, in float32 and in the mixed precision of `train.py`."""
    network = network.to(device, memory_format=torch.channels_last).train()  # as train.py has it
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    frames = torch.randn(batch, 3, 3, crop, crop, device=device)
    labels = torch.randint(0, 1 + objects, (batch, 3, crop, crop), device=device)
    masks = torch.stack([(labels[:, 0] == number).float() for number in range(1, 1 + objects)], dim=1)
    valid = torch.ones(batch, objects, dtype=torch.bool, device=device)

    def step(dtype: torch.dtype) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = network(frames, masks, valid)
        clip_losses(logits, labels, valid, 0.5).sum().backward()
        optimizer.step()

    watch = Stopwatch(device)
    dtypes = (torch.float32, torch.float16 if device.type == "cuda" else torch.bfloat16)
    with progress_bar(2 * (repeats + 1), "training steps") as bar:
        for _ in range(repeats + 1):
            for dtype in dtypes:
                watch.time(str(dtype), partial(step, dtype))
                bar.increment()
    single, half = (statistics.median(watch.parts[str(dtype)][1:]) for dtype in dtypes)
    return (
        f"training, {objects} objects, batch {batch}, crop {crop}: {single:.3f} s a step, "
        f"in {str(dtypes[1])[6:]} {half:.3f} s, {single / half:.2f} times faster, medians of {repeats}"
    )


def measure_scoring(*, size: tuple[int, int], repeats: int) -> str:
    """Scoring of one object in one frame, without reading files."""
    truth, result = (made_up_mask(size, range(1, 8)) > 0 for _ in range(2))
    result = np.roll(result, 5, axis=1)
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(repeats):
        watch.time("score", partial(score_masks, truth, result))
    return f"scoring, {size[0]}x{size[1]}: {1000 * watch.median('score'):.2f} ms a frame and object, median of {repeats}"


def size_of(text: str) -> tuple[int, int]:
    """For argparse: HEIGHTxWIDTH."""
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        height = width = 0
    if min(height, width) < 16:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH of at least 16x16, found {text!r}")
    return height, width


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=first_line(__doc__), formatter_class=DefaultsFormatter)
    what = result.add_argument_group("what is measured").add_mutually_exclusive_group(required=True)
    what.add_argument("--data", action="store_true", help="training samples per second and core")
    what.add_argument("--parts", action="store_true", help="time of each part of a frame")
    what.add_argument("--read", action="store_true", help="reading the memory, ours and plainly")
    what.add_argument("--video", action="store_true", help="a whole made-up video, ours and plainly")
    what.add_argument("--long", action="store_true", help="time and memory as a video goes on")
    what.add_argument("--growth", action="store_true", help="growth with frames, objects and pixels: a table and a plot")
    what.add_argument("--training", action="store_true", help="training steps a second")
    what.add_argument("--scoring", action="store_true", help="scoring of a frame")
    result.add_argument("--repeats", type=positive_int, default=20, help="of each measurement; medians are printed")
    result.add_argument("--model", metavar="FILE", help="checkpoint (default: the paper's network with random weights)")
    result.add_argument("--size", type=size_of, default=(480, 854), metavar="HxW", help="of a frame in pixels")
    result.add_argument("--frames", type=positive_int, default=50, help="of a video")
    result.add_argument("--objects", type=positive_int, default=1, help="in a video")
    result.add_argument("--late", type=non_negative_int, default=0, help="so many of the objects enter in the middle")
    result.add_argument(
        "--memory", type=non_negative_int, help="made-up memory frames (default: 10 for --parts and --read, 0 for videos)"
    )
    result.add_argument("--max_memory_frames", type=positive_int, help="for --long and --video (default: no bound)")
    result.add_argument("--batch", type=positive_int, default=4, help="for --training")
    result.add_argument("--output", default="growth.png", metavar="PNG", help="plot of --growth")
    result.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps")
    result.add_argument("--threads", type=positive_int, help="of PyTorch on the CPU")
    add_data_flags(result)
    add_crop_flag(result)
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    device, repeats, size = device_of(arguments.device), arguments.repeats, arguments.size
    if arguments.memory is None:
        arguments.memory = 10 if arguments.parts or arguments.read else 0
    if arguments.memory and arguments.late:
        raise InputError("--late: goes without --memory, which holds all objects from the start")
    if arguments.objects > STRIPES:
        raise InputError(f"--objects: expected at most {STRIPES}, found {arguments.objects}")
    if (arguments.long or arguments.growth) and arguments.frames < PARTS:
        raise InputError(f"--frames: expected at least {PARTS}, found {arguments.frames}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.data:
        print(measure_data(data_roots(arguments), crop=arguments.crop, repeats=repeats))
    elif arguments.scoring:
        print(measure_scoring(size=size, repeats=repeats))
    elif arguments.read:
        print(measure_read(size=size, objects=arguments.objects, memory=arguments.memory, repeats=repeats, device=device))
    elif arguments.training:
        network = load_network(arguments.model) if arguments.model else STCN()
        shape = {"crop": arguments.crop, "batch": arguments.batch, "objects": arguments.objects}
        print(measure_training(network, **shape, repeats=repeats, device=device))
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = arguments.model or _untrained(Path(folder))
            if arguments.parts:
                network = load_for_inference(model, device)
                shape = {"size": size, "objects": arguments.objects, "memory": arguments.memory}
                print(measure_parts(network, **shape, repeats=repeats))
                return
            job = VideoJob(
                "ours",
                str(model),
                size,
                arguments.frames,
                arguments.objects,
                arguments.late,
                arguments.memory,
                arguments.max_memory_frames,
                str(device),
                arguments.threads,
            )
            if arguments.video:
                print(measure_video(job, repeats=repeats))
            elif arguments.long:
                print(measure_long_video(job))
            else:
                print(measure_growth(job, Path(arguments.output)))


def _untrained(folder: Path) -> Path:
    torch.manual_seed(0)
    save_network(STCN(), folder / "untrained.pth")
    return folder / "untrained.pth"


if __name__ == "__main__":
    sys.exit(main())
