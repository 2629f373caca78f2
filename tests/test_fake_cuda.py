"""What a GPU is given to do, what waits for it and what it must hold, on fake CUDA tensors: no GPU is needed.

Not shown here: numbers and time on a GPU, what cuDNN and cuBLAS do, and NCCL.
"""

import contextlib

import numpy as np
import pytest
import torch
from conftest import build_light_network
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.profiler import ProfilerActivity, profile

from model import STCN, MemoryBank, NetworkConfig, VideoSegmenter
from model.store import SLAB
from scripts.benchmark.fake_cuda import Watch, backward_in_python, fake_cuda
from scripts.benchmark.fits import frame_peak, training_steps
from scripts.benchmark.made_up import made_up_frame, made_up_mask
from util.device import Download, upload

on_fake_cuda = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this PyTorch was built without CUDA")
LIGHT = NetworkConfig(key_backbone="resnet18", key_dim=8, value_dim=32)
CUDA = torch.device("cuda")
LAUNCHES = 130  # of a read at 480p with 20 memory frames, at most


@pytest.mark.parametrize(
    ("operation", "waits"),
    [
        (lambda x: x[0].item(), 1),
        (lambda x: float(x.sum()), 1),
        (lambda x: bool(x[0] > 0), 1),
        (lambda x: x.tolist(), 3),
        (lambda x: torch.equal(x, x), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.bool().unique(), 1),
        (lambda x: x.long().bincount(minlength=9), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: torch.tensor([1, 2], device="cuda"), 1),
        (lambda x: torch.zeros(3).to("cuda", non_blocking=True), 1),  # from memory that is not pinned
        (lambda x: x.index_put_((x > 0,), x), 1),
        (lambda x: x[[0, 1]], 1),
        (lambda x: x.masked_fill(x > 0, 1), 0),
        (lambda x: x.index_put_((x > 0,), torch.tensor(1.0)), 0),  # the same
        (lambda x: x[torch.arange(2, device="cuda")], 0),
        (lambda x: upload(torch.zeros(3), x.device), 0),
        (lambda x: Download(x).get(), 0),
    ],
)
@on_fake_cuda
def test_what_waits_is_counted_with_its_line(operation, waits):
    with fake_cuda() as watch:
        x = torch.zeros(3, device="cuda")
        watch.reset()
        with contextlib.suppress(DynamicOutputShapeException, DataDependentOutputException):
            operation(x)
    assert len(watch.waits) == waits
    assert all(wait.startswith("tests/test_fake_cuda.py:") for wait in watch.waits)


@on_fake_cuda
def test_operations_that_mix_devices_raise():
    with fake_cuda(), pytest.raises(RuntimeError, match="same device"):
        torch.zeros(3, device="cuda") + torch.zeros(3)


@pytest.mark.parametrize("bound", [None, 20])
@pytest.mark.parametrize("objects", [1, 5])
@on_fake_cuda
def test_reading_the_memory_takes_few_launches_and_no_wait(objects, bound):
    key, values = (64, 30, 54), (objects, 512, 30, 54)
    with fake_cuda() as watch, torch.inference_mode():
        bank = MemoryBank(max_frames=bound)
        for _ in range(20):
            bank.add(torch.zeros(key, device="cuda"), torch.zeros(values, device="cuda"))
        query = torch.zeros(key, device="cuda")
        watch.reset()
        assert bank.read(query).shape == values
        assert 50 < watch.launches.total() <= LAUNCHES, watch.launches
        assert watch.waits == []


@pytest.mark.parametrize(
    ("amp", "options"),
    [
        (False, {}),
        (True, {"max_memory_frames": 2, "size": 64}),
        (False, {"top_k": None, "max_memory_frames": 2, "include_last": True}),
    ],
)
@on_fake_cuda
def test_a_frame_without_a_given_mask_waits_for_nothing(amp, options):
    frame, mask = made_up_frame((96, 128)), made_up_mask((96, 128), range(1, 4))
    if "size" in options:
        mask = np.ascontiguousarray(mask[:64, :85])
    with fake_cuda() as watch:
        network = STCN(LIGHT).to("cuda").for_inference(amp=amp)
        segmenter = VideoSegmenter(network, memory_every=2, **options)
        segmenter.to_labels(segmenter.step(frame, mask))
        watch.reset()
        for _ in range(8):
            labels = segmenter.to_labels(segmenter.step(frame))
            assert labels.device.type == "cuda"
            assert labels.shape == (96, 128)
            assert watch.waits == []
        assert segmenter.bank.frames == options.get("max_memory_frames", 4) + options.get("include_last", False)
    # when a frame must be forgotten, the last read is waited for, but not the decoder, which keeps the GPU busy
    assert len(watch.events) == (2 if "max_memory_frames" in options else 0)
    assert all(launches > 30 for launches in watch.events)


@pytest.mark.parametrize("dtype", [None, torch.float16])
@on_fake_cuda
def test_a_training_step_waits_once_for_whether_its_gradients_are_finite(dtype):
    with fake_cuda() as watch:
        step = training_steps(STCN(LIGHT), batch=2, slots=2, crop=32, dtype=dtype, device=CUDA)
        watch.reset()
        assert step().shape == (2, 2, 32, 32)
    (wait,) = watch.waits  # of `GradScaler.step`
    assert wait.startswith("training/state.py:")
    assert wait.endswith("_local_scalar_dense.default")


def test_backward_in_python_gives_the_gradients_of_backward():
    frames, valid = (
        torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.ones(2, 2, dtype=torch.bool),
    )
    gradients = []
    for context in (contextlib.nullcontext(), backward_in_python()):
        network = build_light_network(seed=1)
        with context:
            network(frames, (frames[:, 0, :2] > 0).float(), valid).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    assert all(gradient is not None for gradient in gradients[0].values())


def test_the_counted_peak_of_a_training_step_is_the_measured_one():
    """On the CPU, whose profiler knows each allocation, those inside of operations too."""
    with Watch("cpu") as watch:
        network = STCN(LIGHT)
        step = training_steps(network, batch=2, slots=2, crop=64, dtype=None, device=torch.device("cpu"))
        network.zero_grad()
        watch.reset()
        before = watch.live
        with backward_in_python():
            step()
    network.zero_grad()  # the profiler does not see that what was there before is freed
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    changes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert watch.peak - before == pytest.approx(np.cumsum(changes).max(), rel=0.1)


@on_fake_cuda
def test_a_frame_needs_so_much_more_as_it_remembers_more():
    few, many = (frame_peak(LIGHT, size=(96, 128), memory=memory, objects=2, dtype=None) for memory in (2 * SLAB, 4 * SLAB))
    positions = SLAB * 6 * 8
    slab = 4 * (positions * (LIGHT.key_dim + 1) + (positions + 1) * 2 * LIGHT.value_dim)  # keys with their norm, values
    assert many - few == pytest.approx(2 * slab, abs=8 * 512)


def random_bank(**options) -> tuple[MemoryBank, torch.Tensor]:
    """A bank of several slabs and two groups, and a query, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(**options)
    for number in range(2 * SLAB + 1):
        objects = 1 if number < SLAB // 2 else 3
        bank.add(torch.randn(8, 4, 5, generator=generator), torch.randn(objects, 6, 4, 5, generator=generator))
        bank.read(torch.randn(8, 4, 5, generator=generator))
    return bank, torch.randn(8, 4, 5, generator=generator)


@pytest.mark.parametrize("bound", [None, 5])
def test_reading_as_on_cuda_gives_the_same_on_the_cpu(bound, monkeypatch):
    bank, query = random_bank(max_frames=bound)
    expected = bank.read(query)
    monkeypatch.setattr("model.memory.WITHOUT_WAITS", ("cpu",))
    for block in (2**24, 60):
        monkeypatch.setattr("model.memory.GPU_BLOCK", block)
        bank, query = random_bank(max_frames=bound)
        for slab in bank._slabs:  # rows that no frame has are never read, be they NaN
            for values in slab.values.values():
                values[-1] = torch.nan
        torch.testing.assert_close(bank.read(query), expected)


def test_a_state_without_the_last_row_of_each_store_is_read_too():
    bank, query = random_bank(max_frames=5)
    state = bank.state_dict()
    for slab in state["slabs"]:
        slab["values"] = {group: values[:-1].clone() for group, values in slab["values"].items()}
    state["frames"][-1] |= {"usage": 0.0, "reads": 0}  # as a frame had it that nothing had read
    other = MemoryBank(max_frames=5)
    other.load_state_dict(state)
    assert torch.equal(other.read(query), bank.read(query))
    assert all(len(values) == len(slab.keys) + 1 for slab in other._slabs for values in slab.values.values())
