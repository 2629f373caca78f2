"""CUDA without a GPU, on fake tensors: they have a shape, a type and a device, but no numbers.

What runs on them shows what a GPU is given to do, what waits for it, and how many bytes its tensors take.  Operations that
mix devices raise, as they do on a GPU.  Numbers, time, and what happens inside an operation or between GPUs are not seen.
"""

import contextlib
import heapq
import itertools
import sys
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from model import VideoSegmenter

ROOT = Path(__file__).resolve().parents[2]
ALLOCATION = 512  # bytes, of which PyTorch's allocator hands out multiples
ATEN: Any = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
INDEXING = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default)
NOT_LAUNCHED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")  # beside views


class Watch(TorchDispatchMode):
    """Counts what is done with the tensors of one kind of device.

    launches: how many operations each line of ours has given to it; one may be several kernels, and views are none
    waits:    what made the CPU wait until all of that was done, with the line
    events:   for each wait for an event, how many launches had been given after the event, and were not waited for
    peak:     the most bytes that its tensors took at the same time; `live` is what they take now
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.launches: Counter[str] = Counter()
        self.waits: list[str] = []
        self.events: list[int] = []
        self.live = self.peak = 0
        self._given = 0  # launches, ever
        self._storages = WeakIdKeyDictionary()  # those that are counted
        self._pinned = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # which asks for a property
            return func(*args, **kwargs)
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # inference mode leaves it to us to see what it is made of
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        pinned = kwargs.pop("pin_memory", False)  # which needs a GPU even for a fake tensor of known numbers
        if self._waits(func, args, kwargs):
            self.waits.append(f"{_line()} {func}")
        try:
            result = func(*args, **kwargs)
        except DataDependentOutputException:
            if func is not ATEN._local_scalar_dense.default:
                raise
            return 0  # in place of the number that nobody knows
        outputs = _tensors(result)
        if pinned:
            self._pinned[result.untyped_storage()] = True
        here = [x for x in outputs or _tensors(args) if x.device.type == self.device]
        if here and not func.is_view and func._schema.name.removeprefix("aten::") not in NOT_LAUNCHED:
            self.launches[_line()] += 1
            self._given += 1
        for tensor in here:
            self._count(tensor.untyped_storage())
        return result

    def reset(self) -> None:
        """Count from here on; what is alive stays so."""
        self.launches.clear()
        self.waits.clear()
        self.events.clear()
        self.peak = self.live

    def event(self, *_: Any) -> Any:
        """In place of a CUDA stream, whose event it records, and of that event."""
        before = self._given
        return SimpleNamespace(synchronize=lambda: self.events.append(self._given - before))

    def _waits(self, func: Any, args: Any, kwargs: Any) -> bool:
        """Whether the CPU needs a result of the GPU to go on, or the GPU an answer that the CPU waits to give."""
        if func in COPIES:
            source, target = (args[1], args[0]) if func is ATEN.copy_.default else (args[0], None)
            devices = source.device, kwargs.get("device", source.device) if target is None else target.device
            if sorted(device.type for device in devices) != sorted(["cpu", self.device]):
                return False
            host = source if source.device.type == "cpu" else target  # `None`: `_to_copy` makes it, pinned if need be
            pinned = host is None or host.untyped_storage() in self._pinned
            return not (pinned and (kwargs.get("non_blocking") or (len(args) > 2 and args[2])))
        if not any(x.device.type == self.device for x in _tensors(args)):
            return False
        if func in INDEXING:
            by_mask = any(x.dtype in (torch.bool, torch.uint8) for x in _tensors(args[1]))
            fills = func is not ATEN.index.Tensor and args[2].numel() == 1 and args[2].device.type == "cpu"
            return (by_mask and not fills) or any(x.device.type == "cpu" for x in _tensors(args[1]))
        return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags))

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._storages:
            return
        self._storages[storage] = True
        size = -(-storage.nbytes() // ALLOCATION) * ALLOCATION
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _line() -> str:
    """The innermost line of ours that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path != Path(__file__) and "site-packages" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


@contextlib.contextmanager
def fake_cuda() -> Iterator[Watch]:
    """Tensors made in here are fake, and may lie on CUDA; training steps work, with gradients and mixed precision.

    A given mask must be a uint8 array of ids at the size at which the network works.
    """
    watch = Watch("cuda")
    with (
        FakeTensorMode(),
        backward_in_python(),
        warnings.catch_warnings(),
        patch.object(nn.Module, "_apply", _apply),
        patch.object(VideoSegmenter, "_as_mask", lambda _, mask, __: mask),  # its numbers are needed
        patch.object(FakeTensorMode, "__deepcopy__", lambda mode, _: mode, create=True),  # tensors hold it
        patch("torch.optim.adam._default_to_fused_or_foreach", lambda *_, **__: (False, True)),  # which is so on CUDA
        patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        patch("torch.cuda.current_stream", lambda _: SimpleNamespace(record_event=watch.event)),
        watch,
    ):
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield watch


class _Saved:
    """A tensor that a node of the graph keeps for its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor


@contextlib.contextmanager
def backward_in_python() -> Iterator[None]:
    """`Tensor.backward` without PyTorch's engine, which wants a GPU; like it, frees what a node saved when it is done."""
    used: list[_Saved] = []

    def unpack(saved: _Saved) -> Tensor:
        assert saved.tensor is not None
        used.append(saved)
        return saved.tensor

    @torch.no_grad()
    def backward(loss: Tensor) -> None:
        number, root = itertools.count(), loss.grad_fn
        assert root is not None
        gradients: dict[Any, dict[int, Tensor]] = {root: {0: torch.ones_like(loss)}}
        waiting: list[tuple[int, int, Any]] = [(-root._sequence_nr(), next(number), root)]
        while waiting:  # what was made last comes first: it needs nothing but what was made after it
            node = heapq.heappop(waiting)[2]
            given = gradients.pop(node)
            results = node(*(given.get(i) for i in range(len(node._input_metadata))))
            del given
            while used:
                used.pop().tensor = None
            edges = zip(node.next_functions, results if isinstance(results, tuple) else (results,), strict=True)
            del results
            for (follower, place), gradient in edges:
                if follower is None or gradient is None:
                    continue
                wanted = follower._input_metadata[place]  # of which what was broadcast is the sum
                gradient = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
                if hasattr(follower, "variable"):
                    leaf = follower.variable
                    leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
                    continue
                if follower not in gradients:
                    gradients[follower] = {}
                    heapq.heappush(waiting, (-follower._sequence_nr(), next(number), follower))
                held = gradients[follower]
                held[place] = held[place] + gradient if place in held else gradient

    with saved_tensors_hooks(_Saved, unpack), patch.object(Tensor, "backward", backward):
        yield


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`Module._apply` that makes new parameters: PyTorch's would exchange the content, which fake tensors refuse."""
    for part in module.modules() if recurse else [module]:
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(change(parameter.detach()), parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, change(buffer))
    return module
