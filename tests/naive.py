"""Slow and obvious versions of what the project does: loops, explicit differences, a bank for each object, float64."""

import numpy as np
import torch
import torch.nn.functional as F

from util.image import one_hot, padding_to_stride, unpad


def naive_similarity(memory_key: np.ndarray, query_key: np.ndarray, kind: str) -> float:
    """Equation 4 for one pair of keys (Ck,), scaled as the softmax gets it."""
    if kind == "l2":
        return -np.sum((memory_key - query_key) ** 2) / np.sqrt(len(query_key))
    if kind == "dot":
        return np.dot(memory_key, query_key) / np.sqrt(len(query_key))
    return np.dot(memory_key, query_key) / np.linalg.norm(memory_key) / np.linalg.norm(query_key) / 0.01


def naive_read(memory_key: np.ndarray, values: np.ndarray, query_key: np.ndarray, kind: str, top_k: int | None) -> np.ndarray:
    """Equations 1 and 2, position by position: keys (M, Ck) and (Q, Ck), values (M, C) of one object -> (Q, C)."""
    readout = np.zeros((len(query_key), values.shape[1]))
    for q, query in enumerate(query_key):
        similarities = np.array([naive_similarity(key, query, kind) for key in memory_key])
        kept = np.argsort(-similarities)[: top_k or len(similarities)]
        weights = np.exp(similarities[kept] - similarities[kept].max())
        weights /= weights.sum()
        for weight, row in zip(weights, kept, strict=True):
            readout[q] += weight * values[row]
    return readout


def _whole_matrix_read(keys: torch.Tensor, values: torch.Tensor, query: torch.Tensor, top_k: int) -> torch.Tensor:
    """Keys (M, Ck), values (M, Cv), query (Q, Ck) -> (Q, Cv), by a normalised matrix (M, Q) and a product with it."""
    similarity = -(keys[:, None] - query[None]).square().sum(dim=-1) / keys.shape[1] ** 0.5  # (M, Q)
    top, rows = similarity.topk(min(top_k, len(keys)), dim=0)
    affinity = torch.zeros_like(similarity).scatter_(0, rows, top.softmax(dim=0))
    return affinity.T @ values


def _aggregate(probabilities: torch.Tensor) -> torch.Tensor:
    background = torch.ones_like(probabilities[0])
    for p in probabilities:
        background = background * (1 - p)
    p = torch.cat([background[None], probabilities]).clamp(1e-7, 1 - 1e-7)
    odds = p / (1 - p)
    return odds / odds.sum(dim=0)


@torch.inference_mode()
def segment_plainly(network, images, masks, *, memory_every=5, top_k=20, include_last=False):
    """A whole video, object by object: images (T, 3, H, W), `masks` {frame: label map} -> [(ids, probabilities)].

    Every object has a list of its own of memory frames; nothing is shared, skipped or put off.
    """
    padding = padding_to_stride(*images.shape[2:])
    ids, results, last_memory = [], [], 0
    permanent, temporary = {}, {}  # id -> [(key (hw, Ck), value (hw, Cv))]
    for t, image in enumerate(images):
        image = F.pad(image, padding)[None]
        features = network.encode_key(image)
        query = features.key[0].flatten(1).T
        probabilities = torch.zeros(1 + len(ids), *image.shape[2:])
        if ids:
            each = []
            for number in ids:
                memory = permanent[number] + temporary.get(number, [])
                keys, values = torch.cat([key for key, _ in memory]), torch.cat([value for _, value in memory])
                readout = _whole_matrix_read(keys, values, query, top_k).T.reshape(1, 1, -1, *features.key.shape[2:])
                each.append(torch.sigmoid(network.decode(readout, features)[0, 0]))
            probabilities = _aggregate(torch.stack(each))
        given = masks.get(t)
        if given is not None:
            given = F.pad(given, padding)
            objects = dict(zip(ids, probabilities[1:], strict=True))
            stated = [number for number in given.unique().tolist() if number not in (0, 255)]
            for number in ids:
                for other in stated:
                    objects[number] = torch.where(given == other, 0.0, objects[number])
            for number in stated:
                objects[number] = one_hot(given, [number])[0]
            ids = list(objects)
            probabilities = _aggregate(torch.stack(list(objects.values())))
        remembered = given is not None or t - last_memory >= memory_every
        if ids and (remembered or include_last):
            temporary = {}
            for row, number in enumerate(ids, start=1):
                others = sum(probabilities[i] for i in range(1, 1 + len(ids)) if i != row) + torch.zeros_like(probabilities[0])
                value = network.value_encoder.fusion(
                    network.value_encoder.stages(torch.cat([image[0], probabilities[row][None], others[None]])[None])[2],
                    features.f16,
                )
                entry = (query, value[0].flatten(1).T)
                if remembered:
                    permanent.setdefault(number, []).append(entry)
                else:
                    temporary[number] = [entry]
        if remembered:
            last_memory = t
        if not ids:
            probabilities = torch.ones_like(probabilities)
        results.append((list(ids), unpad(probabilities, padding)))
    return results
