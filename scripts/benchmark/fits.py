"""The GPU memory that training and inference need at their peak, computed without a GPU (`scripts.benchmark.fake_cuda`)."""

from collections.abc import Callable
from typing import Any

import torch

from dataset.stages import STAGES, Batch
from model import STCN, NetworkConfig, VideoSegmenter
from model.stm import parameter_count
from scripts.benchmark.fake_cuda import fake_cuda
from scripts.benchmark.made_up import grid_of, made_up_frame, made_up_mask
from training.config import Objective, TrainConfig
from training.state import RunningMeans, State
from training.step import figure_names, iterate, make_optimizer, make_scaler, training_step
from util.device import fastest_format
from util.distributed import Processes
from util.progress import progress_bar

GPUS = 2  # that the paper trains on
INFERENCE_OBJECTS = (1, 3, 5)


def measure_fits(config: NetworkConfig, *, size: tuple[int, int], memory: int, crop: int) -> str:
    """Tables of peaks, in GiB, in both precisions, for a process of the paper's training and for a frame."""
    steps = [
        (f"{stages}, batch {batch}, {objects}" + f", --accumulate {passes}" * (passes > 1), batch // passes, passes, slots)
        for stages, objects, batch, slots in (
            ("stage 0", "1 object", STAGES[0].batch // GPUS, 1),
            ("stages 1 to 3", "2 objects", STAGES[3].batch // GPUS, 2),
        )
        for passes in (1, 2)
    ]
    dtypes = (torch.float16, None)
    with progress_bar(len(dtypes) * (len(steps) + len(INFERENCE_OBJECTS)), "peaks") as bar:

        def peaks(peak: Callable[..., int], **options: Any) -> str:
            columns = []
            for dtype in dtypes:
                columns.append(f"{peak(config, dtype=dtype, **options) / 2**30:>9.2f}")
                bar.increment()
            return "".join(columns)

        rows = [
            f"{name:<58}" + peaks(training_peak, batch=batch, passes=passes, slots=slots, crop=crop)
            for name, batch, passes, slots in steps
        ]
        for objects in INFERENCE_OBJECTS:
            name = f"frame of {size[0]}x{size[1]}, {memory} memory frames, {objects} object{'s' if objects > 1 else ''}"
            rows.append(f"{name:<58}" + peaks(frame_peak, size=size, memory=memory, objects=objects))
    buckets = 4 * parameter_count(config) / 2**20
    return "\n".join(
        [
            f"{'GiB of tensors at the peak':<58}{'float16':>9}{'float32':>9}",
            *rows,
            "not counted: CUDA itself, what cuDNN and cuBLAS work with, gaps between tensors, and with several GPUs",
            f"the gradients once more ({buckets:.0f} MiB)",
        ]
    )


def training_peak(config: NetworkConfig, **options: Any) -> int:
    """Bytes at the peak of a training step."""
    with fake_cuda() as watch:
        step = training_steps(STCN(config), device=torch.device("cuda"), **options)
        watch.reset()
        step()
    return watch.peak


def training_steps(
    network: STCN,
    *,
    batch: int,
    slots: int,
    crop: int,
    dtype: torch.dtype | None,
    device: torch.device,
    passes: int = 1,
) -> Callable[[], Any]:
    """What does a training step each time it is called, as `train.py` does it after the first, on batches without content."""
    network = network.to(device).to(memory_format=fastest_format(device, half=dtype is not None)).train()
    objective = Objective(dtype, 0, 2)
    config = TrainConfig(iterations=2, batch_size=batch)
    optimizer, scaler = make_optimizer(network, config), make_scaler(objective, device)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # which makes its moments
    state = State(network, objective, optimizer, scaler, RunningMeans(figure_names(slots), Processes()))

    def step() -> torch.Tensor:
        pinned: Any = {"pin_memory": device.type == "cuda"}  # as the data loader gives it
        frames = torch.zeros(batch, 3, crop, crop, 3, dtype=torch.uint8, **pinned)
        labels = torch.zeros(batch, 3, crop, crop, dtype=torch.uint8, **pinned)
        valid = torch.ones(batch, slots, dtype=torch.bool, **pinned)
        content = Batch(frames, labels, valid, ("",) * batch, (), 0)
        return iterate(state, network, [content] * passes, 1, None, device, training_step)  # of the pixels, 58 % count

    return step


def frame_peak(config: NetworkConfig, *, size: tuple[int, int], memory: int, objects: int, dtype: torch.dtype | None) -> int:
    """Bytes at the peak of a frame that makes the last of the memory frames, at least 3, and reads all of them."""
    frame = made_up_frame(size)
    with fake_cuda() as watch:
        network = STCN(config).to("cuda").for_inference(amp=dtype is not None)
        segmenter = VideoSegmenter(network, memory_every=1)
        segmenter.step(frame, made_up_mask(size, range(1, 1 + objects)))
        segmenter.step(frame)
        key = torch.empty(config.key_dim, *grid_of(size), device="cuda")
        stored = segmenter.bank.state_dict()["slabs"][0]["values"][0].dtype
        values = torch.empty(objects, config.value_dim, *grid_of(size), dtype=stored, device="cuda")
        for _ in range(memory - 2):
            segmenter.bank.add(key, values)
        del key, values
        watch.reset()
        segmenter.step(frame)
        assert segmenter.bank.frames == memory
    return watch.peak
