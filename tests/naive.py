"""A slow, obvious memory reader: loops over positions, explicit differences, float64."""

import numpy as np


def naive_similarity(memory_key: np.ndarray, query_key: np.ndarray, kind: str) -> float:
    """Equation 4 for one pair of keys (Ck,), scaled as for the softmax."""
    if kind == "l2":
        return -np.sum((memory_key - query_key) ** 2) / np.sqrt(len(query_key))
    if kind == "dot":
        return np.dot(memory_key, query_key) / np.sqrt(len(query_key))
    if kind == "cosine":
        return np.dot(memory_key, query_key) / np.linalg.norm(memory_key) / np.linalg.norm(query_key) / 0.01
    if kind == "cosine_scaled":
        return naive_similarity(memory_key, query_key, "cosine") / np.sqrt(len(query_key))
    raise ValueError(f"{kind}: write its formula here")


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


def naive_kernel_read(
    memory_key: np.ndarray, values: np.ndarray, query_key: np.ndarray, grid: tuple[int, int], kind: str, top_k: int | None
) -> np.ndarray:
    """The release's kernelized reading in small steps: keys (M, Ck) and (Q, Ck) of a grid, values (M, C) -> (Q, C)."""
    similarities = np.array([[naive_similarity(key, query, kind) for query in query_key] for key in memory_key])  # (M, Q)
    y, x = np.divmod(np.arange(len(query_key)), grid[1])
    best = similarities.argmax(axis=1)
    squared = (y - y[best][:, None]) ** 2 + (x - x[best][:, None]) ** 2
    products = np.exp(similarities - similarities.max(axis=0)) * np.exp(-squared / (2 * 7.0**2))
    readout = np.zeros((len(query_key), values.shape[1]))
    for q in range(len(query_key)):
        kept = np.argsort(-products[:, q])[:top_k]
        readout[q] = products[kept, q] / products[kept, q].sum() @ values[kept]
    return readout
