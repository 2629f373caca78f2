"""Without a GPU: operations do not mix devices, and the CPU waits for the GPU only where it is known to.

Fake tensors have a shape, a type and a device, but no numbers.  An operation that mixes devices raises, as it does on a GPU.
Numbers, time and what cuDNN and NCCL do are not seen.
"""

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from conftest import ROOT, build_light_network
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dataset.sampling import Batch
from model import STCN, MemoryBank, NetworkConfig, VideoSegmenter
from scripts.benchmark.made_up import made_up_frame, made_up_mask
from training.state import RunningMeans, State
from training.step import figure_names, iterate, make_scaler, training_step
from util.distributed import Processes

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
LIGHT = NetworkConfig(key_backbone="resnet18", key_dim=8, value_dim=32)
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
on_fake_cuda = pytest.mark.skipif(
    # before 2.10, fake tensors want a driver; a real GPU gets those from pinned memory
    not torch.backends.cuda.is_built() or torch.__version__ < (2, 10) or torch.cuda.is_available(),
    reason="needs PyTorch 2.10 or newer, built with CUDA, and no GPU",
)


class Waits(TorchDispatchMode):
    """Counts what waits for the numbers of a device's tensors, by file and function of ours: `found`.

    launches: operations that the device was given, without views; one may be several kernels
    events:   for each event that was waited for, the launches that were given after it and not waited for
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.found: Counter[str] = Counter()
        self.launches, self.events = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kwargs.pop("pin_memory", None)  # which needs a GPU
        try:
            result = func(*args, **kwargs)
        except DataDependentOutputException:
            result = 0  # in place of the number that nobody knows
        except DynamicOutputShapeException:
            result = args[0].new_zeros(args[0].numel(), args[0].dim(), dtype=torch.long)  # `nonzero`, where all are true
        devices = {x.device.type for x in tensors((args, kwargs, result))}
        if self.device in devices:
            if func in INDEXING:
                waits = any(x.dtype == torch.bool or x.device.type != self.device for x in tensors(args[1]))
            elif func in COPIES:
                waits = len(devices) > 1 and not (kwargs.get("non_blocking") or args[2:] == (True,))
            else:
                waits = bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags))
            self.found += Counter([where()] * waits)
            self.launches += not func.is_view and func.namespace == "aten"
        return result

    def event(self, *_):
        """In place of a CUDA stream, whose event it records, and of that event."""
        before = self.launches
        return SimpleNamespace(synchronize=lambda: self.events.append(self.launches - before))


def tensors(tree) -> list[torch.Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def where() -> str:
    """The innermost function of ours that is running."""
    frame = sys._getframe(2)
    while not (path := Path(frame.f_code.co_filename)).is_relative_to(ROOT) or "site-packages" in path.parts:
        frame = frame.f_back
    return f"{path.relative_to(ROOT)} {frame.f_code.co_name}"


@pytest.fixture
def waits():
    """Makes all tensors fake, which may then lie on CUDA."""
    waits = Waits("cuda")
    with (
        patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),  # else autocast is off
        patch("torch.cuda.current_stream", lambda _: SimpleNamespace(record_event=waits.event)),
        patch.object(FakeTensorMode, "__deepcopy__", lambda mode, _: mode, create=True),  # tensors hold it
        patch.object(nn.Module, "_apply", convert),
        FakeTensorMode(),
        torch.no_grad(),  # gradients would need the driver
        waits,
    ):
        yield waits


def convert(module: nn.Module, change, recurse=True) -> nn.Module:
    """`Module._apply` that makes new parameters: PyTorch's would exchange the content, which fake tensors refuse."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(change(parameter), parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = change(buffer)
    return module


def batch() -> Batch:
    frames, labels = (torch.zeros(2, 3, 32, 32, *channels, dtype=torch.uint8) for channels in ((3,), ()))
    return Batch(frames, labels, torch.tensor([[True, True], [True, False]]), ("", ""), (), 0)


@on_fake_cuda
def test_mixed_devices_raise_and_waits_are_counted(waits):
    x = torch.zeros(3, device=CUDA)
    with pytest.raises(RuntimeError, match=r"same device|different devices"):
        x + torch.zeros(3)
    for work in (lambda: x.sum().item(), lambda: x.cpu(), lambda: bool(x[0] > 0), lambda: x[x > 0]):
        waits.found.clear()
        work()
        assert waits.found == {"tests/test_fake_cuda.py <lambda>": 1}
    waits.found.clear()
    assert x.masked_fill(x > 0, 1).device.type == "cuda"
    assert not waits.found


@pytest.mark.parametrize("bound", [None, 20])
@pytest.mark.parametrize("objects", [1, 5])
@on_fake_cuda
def test_reading_the_memory_takes_few_launches_and_no_wait(objects, bound, waits):
    bank = MemoryBank(max_frames=bound)
    for _ in range(20):
        bank.add(torch.zeros(64, 30, 54, device=CUDA), torch.zeros(objects, 512, 30, 54, device=CUDA))
    query = torch.zeros(64, 30, 54, device=CUDA)
    waits.launches = 0
    assert bank.read(query).shape == (objects, 512, 30, 54)
    assert 50 < waits.launches <= 130
    assert not waits.found


@pytest.mark.parametrize(
    ("amp", "options"),
    [(False, {}), (True, {"max_memory_frames": 2}), (False, {"top_k": None, "max_memory_frames": 2, "include_last": True})],
)
@on_fake_cuda
def test_a_frame_without_a_given_mask_waits_for_nothing(amp, options, waits):
    frame, mask = made_up_frame((96, 128)), made_up_mask((96, 128), range(1, 4))
    segmenter = VideoSegmenter(STCN(LIGHT).to(CUDA).for_inference(amp=amp), memory_every=2, **options)
    step = VideoSegmenter.step.__wrapped__  # without inference mode, which hides what operations are made of
    with patch.object(VideoSegmenter, "_as_mask", lambda _, mask, *sizes: mask):  # its numbers are needed
        step(segmenter, frame, mask)
        waits.found.clear()
        for _ in range(5):
            labels = segmenter.to_labels(step(segmenter, frame))
            assert labels.device.type == "cuda"
            assert labels.shape == (96, 128)
    assert not waits.found
    assert segmenter.bank.frames == options.get("max_memory_frames", 3)
    # when a frame must be forgotten, the last read is waited for, but not the decoder, which keeps the GPU busy
    assert len(waits.events) == (1 if "max_memory_frames" in options else 0)
    assert all(launches > 30 for launches in waits.events)


@pytest.mark.parametrize("dtype", [None, torch.float16])
@on_fake_cuda
def test_a_forward_pass_of_training_waits_for_nothing(dtype, waits):
    model = STCN(LIGHT).to(CUDA).train()
    content = batch()
    waits.found.clear()
    loss, figures, predicted = training_step(model, content, 0.575, dtype, CUDA)
    assert {x.device.type for x in (loss, predicted, *figures.values())} == {"cuda"}
    assert loss.dtype == torch.float32
    assert not waits.found


def test_a_training_step_asks_for_numbers_only_where_they_are_on_the_cpu_or_to_see_whether_gradients_are_finite():
    """With real tensors on the CPU, since gradients cannot be computed on fake ones on CUDA."""
    network = build_light_network().train()
    optimizer, scaler = torch.optim.SGD(network.parameters(), 0.1), make_scaler(None, CPU)
    state = State(network, None, optimizer, scaler, RunningMeans(figure_names(2), Processes()))
    with Waits("cpu") as waits:
        iterate(state, network, [batch()], 0.575, None, CPU, training_step)
    assert waits.found == {"model/objects.py of": 1, "training/step.py iterate": 1}
