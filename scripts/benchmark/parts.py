"""The parts of a frame (the paper's Figure 5), reading the memory beside the plain formulas, and training steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from dataset.sampling import Batch
from model import STCN, MemoryBank
from model.network import aggregate
from model.plain import read_plainly
from scripts.benchmark.made_up import Stopwatch, grid_of, made_up_frame
from training.config import TrainConfig
from training.state import RunningMeans, State
from training.step import figure_names, iterate, make_optimizer, make_scaler, training_step
from util.device import fastest_format, peak_memory
from util.distributed import Processes
from util.tensors import normalise, padding_to_stride


@torch.inference_mode()
def measure_parts(network: STCN, *, size: tuple[int, int], objects: int, memory: int, repeats: int) -> str:
    """The paper's Figure 5: milliseconds of each part of a frame."""
    weight = next(network.parameters())
    device = weight.device
    watch = Stopwatch(device, warmup=1)
    frame = normalise(torch.from_numpy(made_up_frame(size)).to(device))
    padded = F.pad(frame, padding_to_stride(*size))[None].to(weight.dtype)
    masks = torch.rand(1, objects, *padded.shape[2:], device=device).to(weight.dtype)
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
    return "\n".join([*lines, *(f"{name:<36}{1000 * watch.median(name):>9.1f}" for name in watch.seconds)])


def _labels(logits: torch.Tensor) -> torch.Tensor:
    return aggregate(torch.sigmoid(logits)).max(dim=0).indices


@torch.inference_mode()
def measure_read(*, size: tuple[int, int], objects: int, memory: int, repeats: int, device: torch.device) -> str:
    """Reading the memory, ours and plainly: time, and the memory that it needs besides its input and result."""
    grid, generator = grid_of(size), torch.Generator().manual_seed(0)
    keys = torch.randn(memory, 64, *grid, generator=generator).to(device)
    values = torch.randn(memory, objects, 512, *grid, generator=generator).to(device)
    query = torch.randn(64, *grid, generator=generator).to(device)
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
    timed = {way: lambda turn, work=work: work() for way, work in ways.items()}
    ours, plain = Stopwatch(device).compare(timed, repeats, "reads")
    return (
        f"{size[0]}x{size[1]}, {objects} objects, {memory:>3} memory frames: {1000 * ours:.0f} ms, plainly "
        f"{1000 * plain:.0f} ms, {plain / ours:.1f} times as fast; extra memory {extra['ours'] / 2**20:.0f} MiB, plainly "
        f"{extra['plain'] / 2**20:.0f} MiB, 1/{extra['plain'] / extra['ours']:.0f}"
    )


def _largest_extra(work: Callable[[], Any], device: torch.device) -> int:
    """Bytes allocated at once while it runs, beside its result."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = work()
        return torch.cuda.max_memory_allocated(device) - before - result.nbytes
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        result = work()
    held = largest = 0  # the result is still held at the end, and is not extra
    recorded: Any = profiler.profiler
    for event in recorded.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            largest = max(largest, held)
    return largest - result.nbytes


def measure_training(
    network: STCN, *, crop: int, batch: int, objects: int, repeats: int, half: bool, device: torch.device
) -> str:
    """Training steps of `train.py` on made-up clips, without data loading, with all pixels counted: time and peak memory."""
    dtype = None if not half else "float16" if device.type == "cuda" else "bfloat16"
    config = TrainConfig(repeats, batch, amp_dtype=dtype, no_amp=not half)
    network = network.to(device).to(memory_format=fastest_format(device, half=half)).train()
    amp_dtype = config.autocast_dtype(device)
    means = RunningMeans(figure_names(objects), Processes())
    state = State(network, amp_dtype, make_optimizer(network, config), make_scaler(amp_dtype, device), means)
    frames = torch.randint(0, 256, (batch, 3, crop, crop, 3), dtype=torch.uint8)
    labels = torch.randint(0, 1 + objects, (batch, 3, crop, crop), dtype=torch.uint8)
    content = Batch(frames, labels, torch.ones(batch, objects, dtype=torch.bool), ("",) * batch, (), 0)

    def step(turn: int) -> None:
        iterate(state, network, [content], 1.0, None, device, training_step)

    (seconds,) = Stopwatch(device, warmup=1).compare({"step": step}, repeats, "training steps")
    kind, peak = peak_memory()
    return (
        f"training, {objects} objects, batch {batch}, crop {crop}, {dtype or 'float32'}: {seconds:.3f} s a step, "
        f"median of {repeats}; peak memory {peak / 2**20:.0f} MiB ({kind})"
    )
