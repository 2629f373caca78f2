"""How much memory a video takes to segment, estimated before it starts.

The estimate counts the memory bank exactly, and the tensors of one frame roughly: those that are alive together at the
widest places of the network, from its widths.  It leaves out the network's weights, which are there already, and what
libraries work with, so it is rather too low than too high.
"""

from typing import Any, NamedTuple

from model.memory import SLAB
from util.tensors import STRIDE, padding_to_stride, shorter_side_size

FLOAT = 4  # bytes


class Footprint(NamedTuple):
    bank: int  # bytes of the memory bank when it is largest
    frame: int  # bytes of the tensors of one frame

    @property
    def total(self) -> int:
        return self.bank + self.frame


def footprint(
    network: Any,
    size: tuple[int, int],
    *,
    objects: int,
    frames: int,
    given: int = 1,
    working_size: int | None = None,
    memory_every: int = 5,
    include_last: bool = False,
    max_memory_frames: int | None = None,
    top_k: int | None = 20,
    kernel: bool = False,
    roi: bool = False,
) -> Footprint:
    """The memory for a video of so many frames of `size` (H, W) and so many objects; masks are given at `given` frames.

    network: as `VideoSegmenter` takes it; the other options are that class's, where `working_size` is called `size`.
    """
    height, width = shorter_side_size(*size, working_size)
    left, right, top, bottom = padding_to_stride(height, width)
    pixels = (height + top + bottom) * (width + left + right)
    positions = pixels // STRIDE**2
    config, item = network.config, next(network.parameters()).element_size()

    kept = min(frames, given + (frames - 1) // memory_every)
    if max_memory_frames is not None:
        kept = min(kept, max(max_memory_frames, given) + 1)  # one more until the least used one is dropped
    kept += include_last
    keys = objects if config.arch == "stm" else 1
    values = item * objects * (config.value_dim + roi)
    stored = -(-kept // SLAB) * SLAB * positions * (FLOAT * (config.key_dim + 1) * keys + values)
    read = kept * positions * FLOAT * config.key_dim * kernel  # the keys with their Gaussians
    if top_k is None:  # keys and values in one piece, the similarities and their softmax
        read += kept * positions * (FLOAT * config.key_dim + values + 2 * FLOAT * positions)

    c4, c8, c16 = (factor * (1 if config.key_backbone == "resnet18" else 4) for factor in (64, 128, 256))
    at_once = [getattr(getattr(network, part, None), "at_once", None) or objects for part in ("value_encoder", "decoder")]
    encoded, decoded = (min(objects, count) for count in at_once)
    features = c4 / 16 + c8 / 64 + (c16 + config.value_dim) / 256  # numbers for each pixel; of this frame and the pending one
    key_encoder = max(2 * 64 / 4, 3 * c4 / 16)
    value_encoder = encoded * (5 + 2 * 64 / 4)
    decoder = decoded * 4 * config.value_dim / 2 / 16
    each_object = 6 * config.value_dim / 256  # what it reads, and what the decoder makes of that
    working = item * (2 * features + max(key_encoder, value_encoder, decoder + objects * each_object))
    probabilities = FLOAT * 4 * objects
    at_frame_size = FLOAT * (3 + 1 + objects) * size[0] * size[1]
    return Footprint(stored + read, round(pixels * (working + probabilities)) + at_frame_size)
