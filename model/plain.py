"""The paper's formulas written out: tests compare the segmenter with them, and the benchmark times it against them.

The whole video is in memory, the affinity is a normalised matrix (M, Q) multiplied with the values, objects that enter later
have their own bank, and everything is computed separately for each object.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from model import STCN
from model.modules import KeyFeatures
from util.tensors import one_hot, padding_to_stride, unpad


def read_plainly(keys: Tensor, values: Tensor, query: Tensor, top_k: int) -> Tensor:
    """Equations 1, 2 and 5: keys (Ck, M), values (N, Cv, M) and query (Ck, Q) -> (N, Cv, Q)."""
    squared_norm = keys.square().sum(dim=0)[:, None]  # (M, 1)
    similarity = (2 * keys.T @ query - squared_norm) / len(query) ** 0.5  # (M, Q)
    top, rows = similarity.topk(min(top_k, len(similarity)), dim=0)
    affinity = torch.zeros_like(similarity).scatter_(0, rows, top.softmax(dim=0))
    return torch.matmul(values, affinity)


def encode_value_plainly(network: STCN, image: Tensor, masks: Tensor, f16: Tensor) -> Tensor:
    """(1, 3, H, W), the objects' (N, H, W) and the frame's f16 -> (N, Cv, h, w)."""
    encoder = network.value_encoder
    others = masks.sum(dim=0) - masks
    x = torch.cat([image.expand(len(masks), -1, -1, -1), masks[:, None], others[:, None]], dim=1)
    value_f16 = encoder.stages(x)[2]
    x = encoder.fusion.block1(torch.cat([value_f16, f16.expand(len(masks), -1, -1, -1)], dim=1))
    return encoder.fusion.block2(x if encoder.fusion.attention is None else x + encoder.fusion.attention(x))


def decode_plainly(network: STCN, readout: Tensor, features: KeyFeatures) -> Tensor:
    """Readout (N, Cv, h, w) and the frame's features -> logits (N, H, W)."""
    decoder = network.decoder
    _, context, _, f8, f4 = (x.expand(len(readout), -1, -1, -1) for x in features)
    x = decoder.compress(torch.cat([readout, context], dim=1))
    for up, skip in ((decoder.up_16_8, f8), (decoder.up_8_4, f4)):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = up.block(up.skip_conv(skip) + x)
    logits = F.interpolate(decoder.prediction(F.relu(x)), scale_factor=4, mode="bilinear", align_corners=False)
    return logits[:, 0]


def aggregate_plainly(probabilities: Tensor) -> Tensor:
    """(N, H, W), independent for each object -> (N+1, H, W)."""
    background = (1 - probabilities).prod(dim=0, keepdim=True)
    p = torch.cat([background, probabilities]).clamp(1e-7, 1 - 1e-7)
    odds = p / (1 - p)
    return odds / odds.sum(dim=0)


class PlainBank:
    """The memory of objects that entered together: keys (Ck, M) and values (N, Cv, M)."""

    def __init__(self) -> None:
        self.keys, self.values = [], []
        self.last: list[tuple[Tensor, Tensor]] = []  # at most one temporary frame

    def read(self, query: Tensor, top_k: int) -> Tensor:
        keys = torch.cat([*self.keys, *(key for key, _ in self.last)], dim=1)
        values = torch.cat([*self.values, *(value for _, value in self.last)], dim=2)
        return read_plainly(keys, values, query, top_k)


@torch.inference_mode()
def segment_plainly(
    network: STCN,
    images: Tensor,
    masks: dict[int, Tensor],
    *,
    memory_every: int = 5,
    top_k: int = 20,
    include_last: bool = False,
) -> list[tuple[list[int], Tensor]]:
    """A video (T, 3, H, W) normalised and the label maps given at some frames -> for each frame (ids, probabilities)."""
    padding = padding_to_stride(*images.shape[2:])
    images = F.pad(images, padding)
    banks: list[tuple[list[int], PlainBank]] = []
    ids: list[int] = []
    results, last_memory = [], 0
    for t, image in enumerate(images.split(1)):
        features = network.encode_key(image)
        query, size = features.key[0].flatten(1), features.key.shape[2:]
        probabilities = torch.ones(1, *image.shape[2:], device=image.device)
        if ids:
            logits = [decode_plainly(network, bank.read(query, top_k).unflatten(2, size), features) for _, bank in banks]
            probabilities = aggregate_plainly(torch.cat(logits).sigmoid())
        given = masks.get(t)
        if given is not None:
            given = F.pad(given, padding)
            stated = [number for number in given.unique().tolist() if number not in (0, 255)]
            known, new = list(ids), [number for number in stated if number not in ids]
            ids += new
            objects = dict(zip(known, probabilities[1:], strict=True))
            for number in known:
                objects[number] = torch.where((given != 0) & (given != 255), 0.0, objects[number])
            objects |= {number: one_hot(given, [number])[0] for number in stated}
            if new:
                banks.append((new, PlainBank()))
            probabilities = aggregate_plainly(torch.stack([objects[number] for number in ids]))
        remembered = given is not None or t - last_memory >= memory_every
        if ids and (remembered or include_last):
            values = encode_value_plainly(network, image, probabilities[1:], features.f16).flatten(2)  # (N, Cv, hw)
            for numbers, bank in banks:
                value = values[[ids.index(number) for number in numbers]]
                bank.last = [] if remembered else [(query, value)]
                if remembered:
                    bank.keys.append(query)
                    bank.values.append(value)
        if remembered:
            last_memory = t
        results.append((list(ids), unpad(probabilities, padding)))
    return results
