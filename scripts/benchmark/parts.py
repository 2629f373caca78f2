"""The parts of a frame (the paper's Figure 5), and training steps."""

import statistics

import torch
import torch.nn.functional as F

from dataset.sampling import Batch
from model import STCN
from model.network import aggregate
from scripts.benchmark.made_up import made_up_frame
from training.config import TrainConfig
from training.state import RunningMeans, State
from training.step import figure_names, iterate, make_optimizer, make_scaler, training_step
from util.device import fastest_format, peak_memory
from util.distributed import Processes
from util.progress import progress_bar
from util.stopwatch import Stopwatch
from util.tensors import normalise, padding_to_stride


@torch.inference_mode()
def measure_parts(network: STCN, *, size: tuple[int, int], objects: int, memory: int, repeats: int) -> str:
    """The paper's Figure 5: milliseconds of each part of a frame."""
    weight = next(network.parameters())
    device = weight.device
    watch = Stopwatch(device)
    frame = normalise(torch.from_numpy(made_up_frame(size)).to(device))
    padded = F.pad(frame, padding_to_stride(*size))[None].to(weight.dtype)
    masks = torch.rand(1, objects, *padded.shape[2:], device=device).to(weight.dtype)
    features = network.encode_key(padded)
    key, values = network.memorise(padded, masks, features)
    bank = network.memory_bank()
    for _ in range(memory):
        bank.add(key[0] + 0.1 * torch.randn_like(key[0]), values[0])
    for _ in range(repeats + 1):
        features = watch.time("key encoding", network.encode_key, padded)
        watch.time("value encoding, every 5th frame", network.memorise, padded, masks, features)
        read = watch.time("affinity matching and readout", bank.read, features.key[0])
        logits = watch.time("decoding", network.decode, read[None], features)
        watch.time("the rest: aggregation, labels", _labels, logits[0])
    lines = [f"{'part':<36}{'ms':>9}   {size[0]}x{size[1]}, {objects} objects, {memory} memory frames, median of {repeats}"]
    return "\n".join([*lines, *(f"{name:<36}{1000 * _median(seconds):>9.1f}" for name, seconds in watch.seconds.items())])


def _labels(logits: torch.Tensor) -> torch.Tensor:
    return aggregate(torch.sigmoid(logits)).max(dim=0).indices


def _median(seconds: list[float]) -> float:
    """Without the first time, which takes longer."""
    return statistics.median(seconds[1:])


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
    watch = Stopwatch(device)
    with progress_bar(repeats + 1, "training steps") as bar:
        for _ in range(repeats + 1):
            watch.time("step", iterate, state, network, [content], 1.0, None, device, training_step)
            bar.increment()
    kind, peak = peak_memory()
    return (
        f"training, {objects} objects, batch {batch}, crop {crop}, {dtype or 'float32'}: "
        f"{_median(watch.seconds['step']):.3f} s a step, median of {repeats}; peak memory {peak / 2**20:.0f} MiB ({kind})"
    )
