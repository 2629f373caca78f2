"""Segmenting a video frame by frame (sections 3.2, 3.3 and 5)."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.footprint import Footprint, footprint
from model.modules import KeyFeatures
from model.network import STCN, aggregate
from model.onnx import OnnxNetwork
from model.roi import cells_with, decode_regions
from util.device import upload
from util.label_map import IGNORED, WHITE, Numbering, count_values, object_ids, resize_labels
from util.tensors import normalise, one_hot, padding_to_stride, resize_image, resize_probabilities, shorter_side_size, unpad

LARGEST_NORMALISED = 10.0  # more than any normalised value, about -2.1 to 2.6, and less than those to 255


class _Pending(NamedTuple):
    """A frame that becomes memory only if another frame follows."""

    image: Tensor  # (1, 3, H, W) padded
    features: KeyFeatures
    probabilities: Tensor  # (N+1, H, W) padded
    annotated: bool
    temporary: bool


class VideoSegmenter:
    """Follows objects through one video, frame by frame.  Only the memory bank grows with the video.

    network:      in evaluation mode; it runs on its own device and in its own dtype.  Similarity, softmax and aggregation
                  are always float32.
    size:         shorter side at which the network works, in pixels: frames (bicubic) and masks (nearest) are resized to it,
                  and probabilities (bilinear) back; `None` for the size of the frames
    memory_every: a frame becomes memory when this many frames have passed since the last memory frame (section 3.3)
    top_k:        memory positions read for each query position (section 5); `None` for all
    include_last: also use every other frame as temporary memory for the next one (section 3.3 finds this harmful)
    max_memory_frames: largest number of memory frames; `None` for no limit, as in the paper (see `MemoryBank`)
    kernel:       read the memory with a Gaussian around each best match (section E)
    flip:         show the network everything left for right (section E); results are not flipped
    roi:          decode objects only where they can be (`model.roi`): faster on a CPU, and results differ a little; not
                  with ONNX

    `object_ids` are the data set's ids, in the order in which the objects entered.  Raises `ValueError` for numbers below 1,
    and for `roi` with ONNX.

        segmenter = VideoSegmenter(network)
        labels = segmenter.to_labels(segmenter.step(first_frame, first_mask))
        for frame in frames:
            labels = segmenter.to_labels(segmenter.step(frame))
    """

    def __init__(
        self,
        network: STCN | OnnxNetwork,
        *,
        size: int | None = None,
        memory_every: int = 5,
        top_k: int | None = 20,
        include_last: bool = False,
        max_memory_frames: int | None = None,
        kernel: bool = False,
        flip: bool = False,
        roi: bool = False,
    ) -> None:
        for name, value in (("memory_every", memory_every), ("size", size)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, found {value}")
        if roi and isinstance(network, OnnxNetwork):
            raise ValueError("roi: expected a network of PyTorch, found one of ONNX")
        self.network = network
        weight = next(network.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.size = size
        self.memory_every = memory_every
        self.include_last = include_last
        self.flip = flip
        self.roi = roi
        self.bank = network.memory_bank(top_k=top_k, max_frames=max_memory_frames, kernel=kernel)
        self._options: dict[str, Any] = {
            "working_size": size,
            "memory_every": memory_every,
            "top_k": top_k,
            "include_last": include_last,
            "max_memory_frames": max_memory_frames,
            "kernel": kernel,
            "roi": roi,
        }
        self.object_ids: list[int] = []
        self._numbering = Numbering(strict=True)
        self._size: tuple[int, int] | None = None  # of the frames
        self._frame = 0  # of the next step
        self._last_memory = 0
        self._pending: _Pending | None = None

    @torch.inference_mode()
    def step(
        self,
        image: Tensor | np.ndarray,
        mask: Tensor | np.ndarray | None = None,
        wanted: bool = True,
        *,
        stated: Collection[int] = (),
        memorised: bool = False,
        resize_back: bool = True,
    ) -> Tensor | None:
        """Segment the next frame.

        image:  uint8 RGB, (H, W, 3) or (3, H, W), or (3, H, W) float, normalised with ImageNet's mean and deviation (floats
                from 0 to 1 are taken for that, those to 255 on the CPU refused); any size, the same in all frames
        mask:   (H, W) integer label map: the objects given at this frame, under the data set's own ids from 1 to 254.  0
                states nothing; 255 beside ids is ignored.  White on black, 0 and 255 alone, is object 1, and so is a
                bool mask; the first mask that is not empty says which it is (`util.label_map.Numbering`).  An object given
                again has its prediction replaced by the new mask.
        wanted: `False` if nobody needs this frame's result; it is then computed only if it becomes memory
        stated: ids of which the mask tells everything: one that it does not show is not in the frame
        memorised: the frame with this mask is in the memory already (`memorise`) and does not enter it again: a position
                that is there twice would count twice in the softmax
        resize_back: `False` leaves the probabilities at the size at which the network works

        Returns (N+1, H, W) float32 probabilities on the network's device, background first, then the objects in the
        order of `object_ids`; `None` for a frame that was not computed.  Before the first object all is background.
        Raises `ValueError` when an array is not as above, or masks of ids and masks of 255 alone are mixed.
        """
        frame_image, working, given = self._read(image, mask)
        height, width = frame_image.shape[1:]
        given_ids = [] if given is None else object_ids(given)
        if given is not None:
            given_ids += [i for i in self.object_ids if i in stated and i not in given_ids]
        if not self.object_ids and not given_ids:
            self._frame += 1
            return torch.ones(1, *((height, width) if resize_back else working), device=self.device) if wanted else None

        becomes_memory = bool(given_ids) or self._frame - self._last_memory >= self.memory_every
        if not (wanted or becomes_memory or self.include_last):
            self._frame += 1
            return None
        computed = self._compute(frame_image, working, given, given_ids)
        probabilities = unpad(computed.probabilities, padding_to_stride(*working))
        if self.flip:
            probabilities = probabilities.flip(2)
        if resize_back and working != (height, width):
            probabilities = resize_probabilities(probabilities, (height, width))
        elif not self.flip:
            probabilities = probabilities.clone()  # the memory needs them as they are
        # only now does the frame count, since there may be no memory for a large frame's probabilities
        if becomes_memory:
            self._last_memory = self._frame
        self._frame += 1
        if memorised and given_ids:
            self.bank.drop_temporary()
        elif becomes_memory or self.include_last:
            self._pending = computed._replace(temporary=not becomes_memory)
        return probabilities

    @torch.inference_mode()
    def memorise(self, image: Tensor | np.ndarray, mask: Tensor | np.ndarray, *, stated: Collection[int] = ()) -> None:
        """Put a frame with its mask into the memory before a step reaches it: it is not a step of the video itself.

        image, mask: as for `step`; when the video reaches this frame, `step` gets both again, with `memorised=True`
        stated: as for `step`, but an object may be new here: other masks, memorised later, then show it

        Objects enter here as they do in a step: an object's memory starts at the first frame, in the order of the calls, whose
        mask says something of it.  A known object of which this mask says nothing is predicted.  A mask that says nothing of
        any object is ignored.  Raises `ValueError` as `step` does.
        """
        frame_image, working, given = self._read(image, mask)
        assert given is not None
        given_ids = sorted({*object_ids(given), *stated})
        if given_ids:
            self._store(self._compute(frame_image, working, given, given_ids))

    def to_labels(self, probabilities: Tensor) -> Tensor:
        """The most probable object at each pixel: (N+1, H, W) -> (H, W) uint8, the data set's ids, 0 for background."""
        return labels_of(probabilities, self.object_ids)

    def footprint(self, size: tuple[int, int], **video_and_changes: Any) -> Footprint:
        """The memory that a video takes (`model.footprint`); options given here replace the segmenter's."""
        return footprint(self.network, size, **(self._options | video_and_changes))

    def state_dict(self) -> dict[str, Any]:
        """The segmenter's state between two steps as tensors, numbers and lists, for `torch.save`.

        The tensors are not copied: save them before the next step.
        """
        pending = None
        if self._pending is not None:
            pending = {**self._pending._asdict(), "features": self._pending.features._asdict()}
        return {
            "object_ids": list(self.object_ids),
            "white": self._numbering.white,
            "size": self._size,
            "frame": self._frame,
            "last_memory": self._last_memory,
            "pending": pending,
            "bank": self.bank.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`; the following steps return the same bits as they would have there.

        The segmenter must have the same network and options, on the same kind of device.
        """
        state = _moved(state, self.device)
        pending = state["pending"]
        if pending is not None:
            pending = _Pending(**{**pending, "features": KeyFeatures(**pending["features"])})
        self._pending = pending
        self.object_ids = list(state["object_ids"])
        self._numbering.white = state["white"]
        self._size = None if state["size"] is None else tuple(state["size"])
        self._frame, self._last_memory = state["frame"], state["last_memory"]
        self.bank.load_state_dict(state["bank"])

    def _read(
        self, image: Tensor | np.ndarray, mask: Tensor | np.ndarray | None
    ) -> tuple[Tensor, tuple[int, int], np.ndarray | None]:
        """The image (3, H, W) normalised, the size at which the network works, and the mask at that size, uint8 ids."""
        frame_image = self._as_image(image)
        size = (frame_image.shape[1], frame_image.shape[2])
        working = shorter_side_size(*size, self.size)
        given = self._as_mask(mask, size, working)
        self._size = size  # not before the mask is found to be right, too
        return frame_image, working, given

    def _compute(self, image: Tensor, working: tuple[int, int], given: np.ndarray | None, given_ids: list[int]) -> _Pending:
        """Predict the objects that are not given, and put in those that are; the frame before is stored first."""
        if self._pending is not None:
            self._store(self._pending)
            self._pending = None
        padding = padding_to_stride(*working)
        resized = resize_image(image, working)
        padded = F.pad(resized.flip(2) if self.flip else resized, padding)[None].to(self.dtype)  # (1, 3, H, W)
        features = self.network.encode_key(padded)
        probabilities = self._predict(features) if set(self.object_ids).difference(given_ids) else None
        if given is not None and given_ids:
            whole = F.pad(torch.from_numpy(given).to(self.device), padding)
            probabilities = self._put_in(probabilities, whole, given_ids)
        assert probabilities is not None
        return _Pending(padded, features, probabilities, bool(given_ids), temporary=False)

    def _store(self, frame: _Pending) -> None:
        """Make a frame memory."""
        image, features, probabilities, annotated, temporary = frame
        objects = probabilities[None, 1:].to(self.dtype)
        key, values = self.network.memorise(image, objects, features)  # (1, ...) of all objects
        seen = torch.cat([values[0], cells_with(objects[0])], dim=1) if self.roi else values[0]
        self.bank.add(key[0], seen, annotated=annotated, temporary=temporary)

    def _predict(self, features: KeyFeatures) -> Tensor:
        """Probabilities (N+1, H, W) of the running objects."""
        readout = self.bank.read(features.key[0])
        if self.roi:
            logits = decode_regions(self.network.decode, readout, features)
        else:
            logits = self.network.decode(readout[None], features)[0]  # (N, H, W)
        return aggregate(torch.sigmoid(logits.float()))

    def _put_in(self, probabilities: Tensor | None, given: Tensor, given_ids: list[int]) -> Tensor:
        """Replace the prediction where a mask is given; new ids become objects."""
        ids = list(dict.fromkeys([*self.object_ids, *given_ids]))
        objects = torch.zeros(len(ids), *given.shape, device=self.device)
        if probabilities is not None:
            objects[: len(probabilities) - 1] = probabilities[1:]
        objects = torch.where(given != 0, 0, objects)
        rows = [ids.index(i) for i in given_ids]
        objects[rows] = one_hot(given, given_ids)
        self.object_ids = ids
        return aggregate(objects)

    def _as_image(self, image: Tensor | np.ndarray) -> Tensor:
        image = _as_tensor(image)
        if image.dtype == torch.uint8 and image.dim() == 3 and 3 in (image.shape[0], image.shape[2]):
            image = image if image.shape[2] == 3 else image.permute(1, 2, 0)  # (H, W, 3)
            image = normalise(upload(image, self.device))
        elif not (image.is_floating_point() and image.dim() == 3 and image.shape[0] == 3):
            raise ValueError(
                "image: expected (H, W, 3) or (3, H, W) uint8 RGB, or (3, H, W) float, normalised, "
                f"found {tuple(image.shape)} {image.dtype}"
            )
        elif image.device.type == "cpu" and not (largest := float(image.abs().max())) <= LARGEST_NORMALISED:
            raise ValueError(f"image: expected normalised values, about -2 to 3, found {largest:g}; uint8 is normalised here")
        size = (image.shape[1], image.shape[2])
        if self._size not in (None, size):
            raise ValueError(f"image: expected the size of the frames before, {self._size}, found {size}")
        return upload(image, self.device).float()

    def _as_mask(self, mask: Tensor | np.ndarray | None, size: tuple[int, int], working: tuple[int, int]) -> np.ndarray | None:
        """The mask, which must have this size, as uint8 ids, at the size at which the network works."""
        if mask is None:
            return None
        if isinstance(mask, Tensor):  # to NumPy, which compares all kinds of integers, but has no bfloat16
            mask = (mask.float() if mask.is_floating_point() else mask).numpy(force=True)
        labels = np.asarray(mask)
        if labels.dtype.kind not in "biu" or labels.shape != size:
            raise ValueError(
                f"mask: expected an integer label map of the frame's size {size}, found {labels.shape} {labels.dtype}"
            )
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= IGNORED:
            raise ValueError(f"mask: expected ids from 0 to 255, found {labels.min()} to {labels.max()}")
        labels = self._numbering.read(labels.astype(np.uint8) * np.uint8(WHITE if labels.dtype == bool else 1), "mask")
        if self._numbering.white and (labels > 1).any():
            raise ValueError("mask: expected white on black, like the first mask of this video, found numbers")
        resized = _with_all_objects(resize_labels(labels, working), labels)
        return np.ascontiguousarray(resized[:, ::-1]) if self.flip else resized  # nearest is another pixel of a flipped mask


def _with_all_objects(resized: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A resized label map (H, W) in which every object of `labels` has a pixel: a tiny one would never be followed.

    It is the nearest that is not the last one of another object; there is none only if objects are more than pixels.
    """
    if lost := {*object_ids(labels)} - {*object_ids(resized)}:
        resized = resized.copy()
        rows, columns = np.indices(resized.shape)
        for i in sorted(lost):
            at = np.argwhere(labels == i)
            row, column = at[len(at) // 2] * resized.shape // labels.shape
            free = (resized == 0) | (count_values(resized)[resized] > 1)
            away = np.where(free, (rows - row) ** 2 + (columns - column) ** 2, np.inf)
            if free.any():
                resized[np.unravel_index(away.argmin(), away.shape)] = i
    return resized


def labels_of(probabilities: Tensor, object_ids: Sequence[int]) -> Tensor:
    """(N+1, H, W), background first, and the N ids -> the most probable of each pixel, (H, W) uint8."""
    ids = upload(torch.tensor([0, *object_ids], dtype=torch.uint8), probabilities.device)
    return ids[probabilities.max(dim=0).indices]  # `argmax` is forty times slower on the CPU


def _moved(state: Any, device: torch.device) -> Any:
    """Nested dictionaries and lists with copies of all their tensors on `device`."""
    if isinstance(state, Tensor):
        return state.to(device, copy=True)
    if isinstance(state, dict):
        return {name: _moved(value, device) for name, value in state.items()}
    return [_moved(value, device) for value in state] if isinstance(state, list) else state


def _as_tensor(array: Tensor | np.ndarray) -> Tensor:
    # copied, because torch rejects negative strides and warns about read-only arrays
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def blend(one: Tensor, one_ids: list[int], other: Tensor, other_ids: list[int], share: float) -> tuple[Tensor, list[int]]:
    """Combine two passes over a frame: the mean of their probabilities, where `other` has the weight `share`.

    (N+1, H, W) with N ids and (M+1, H, W) with M ids, `share` from 0 to 1 -> probabilities of all ids, ascending, which
    sum to 1.  An object that one pass has not met yet, or has lost (none of its pixels are the object's) while the other has
    not, is taken from the other alone.  For videos with several given masks; the paper has one direction only.
    """
    ids = sorted({*one_ids, *other_ids})
    in_one, in_other = _shown(one, one_ids), _shown(other, other_ids)
    one, one_ids = of_objects(one, one_ids, {*one_ids} - (in_other - in_one))
    other, other_ids = of_objects(other, other_ids, {*other_ids} - (in_one - in_other))
    one, other = _complete(one, one_ids, other, other_ids, ids), _complete(other, other_ids, one, one_ids, ids)
    return torch.lerp(one, other, share), ids


def _shown(probabilities: Tensor, ids: list[int]) -> set[int]:
    return {*labels_of(probabilities, ids).unique().tolist()} - {0}


def of_objects(probabilities: Tensor, ids: list[int], kept: Collection[int]) -> tuple[Tensor, list[int]]:
    """(N+1, H, W) and N ids -> the rows of the background and of the objects in `kept`, and the ids of these."""
    rows = [row for row, i in enumerate(ids, start=1) if i in kept]
    return probabilities[[0, *rows]], [ids[row - 1] for row in rows]


def _complete(own: Tensor, own_ids: list[int], foreign: Tensor, foreign_ids: list[int], ids: list[int]) -> Tensor:
    rows = [own[1 + own_ids.index(i)] if i in own_ids else foreign[1 + foreign_ids.index(i)] for i in ids]
    if len(own_ids) == len(ids):
        return torch.stack([own[0], *rows])
    return aggregate(torch.stack(rows))
