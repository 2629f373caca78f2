"""From keys to a readout: similarity, affinity with top-k, and the weighted sum (equations 1 to 5; sections 3.2 and 4).

Axes: M memory positions, Q query positions, Ck key channels, Cv value channels, N objects.  The paper's (M, Q) matrices are
(Q, M) here, because softmax and top-k run along the memory.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITIES = ("l2", "dot", "cosine", "cosine_scaled")
COSINE_TEMPERATURE = 0.01  # section 4.2
KERNEL_SIGMA = 7.0  # positions, of the kernelized reading that section E uses above 480p
LARGEST_KEY = 1e16  # beyond it, products of keys, of up to 8192 channels, would overflow float32 and the softmax be NaN
SET_SIZE = 16  # columns in each set of `top_k_of`


def similarity(memory_key: Tensor, query_key: Tensor, kind: str = "l2") -> Tensor:
    """Similarity of each memory position to each query position (equations 3 to 5), scaled for the softmax.

    (B, M, Ck) and (B, Q, Ck) -> (B, Q, M), always float32, also under autocast.  `l2` is the negative squared Euclidean
    distance without its query term, which cancels in a softmax over memory: 2 k.q - |k|^2, the inner product of
    (2 k, -|k|^2) and (q, 1).  `l2` and `dot` are divided by sqrt(Ck), `cosine` by the temperature 0.01, and `cosine_scaled`
    by both: section 3.2 says that similarities are divided by sqrt(Ck), and section 4.2 does not say whether cosine's is.
    Raises `ValueError` for any other.
    """
    refuse_unknown(kind)
    # float32, because half precision would lose the small differences between large similarities
    with torch.autocast(memory_key.device.type, enabled=False):
        return torch.bmm(embed_query(query_key, kind), embed_memory(memory_key, kind).mT)


def refuse_unknown(kind: str) -> None:
    """Raises `ValueError` for a similarity that is not in `SIMILARITIES`."""
    if kind not in SIMILARITIES:
        raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, found {kind!r}")


def affinity(similarities: Tensor) -> Tensor:
    """The softmax over memory of equation 1: (..., M) float32 -> (..., M), which sums to 1."""
    return torch.softmax(similarities, dim=-1)


def readout(affinities: Tensor, values: Tensor) -> Tensor:
    """The weighted sum of equation 2, one affinity for all objects: (B, Q, M) and (B, M, N, Cv) -> (B, Q, N, Cv)."""
    return torch.bmm(affinities.to(values.dtype), values.flatten(2)).unflatten(2, values.shape[2:])


def embed_memory(key: Tensor, kind: str = "l2") -> Tensor:
    """Memory keys (..., M, Ck) -> (..., M, Ck or Ck+1) float32, to be multiplied with `embed_query`'s result."""
    key = key.float().clamp(-LARGEST_KEY, LARGEST_KEY)
    scale = 1 / math.sqrt(key.shape[-1])
    if kind == "l2":
        return torch.cat([2 * scale * key, -scale * key.square().sum(dim=-1, keepdim=True)], dim=-1)
    if kind.startswith("cosine"):
        return F.normalize(key, dim=-1) * ((scale if kind == "cosine_scaled" else 1) / COSINE_TEMPERATURE)
    return scale * key


def embed_query(key: Tensor, kind: str = "l2") -> Tensor:
    """Query keys (..., Q, Ck) -> (..., Q, Ck or Ck+1) float32."""
    key = key.float().clamp(-LARGEST_KEY, LARGEST_KEY)
    if kind == "l2":
        return torch.cat([key, torch.ones_like(key[..., :1])], dim=-1)
    if kind.startswith("cosine"):
        return F.normalize(key, dim=-1)
    return key


def top_k_of(similarities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row and their columns, unordered: (Q, M) -> (Q, min(k, M)) twice.

    The same as `topk`, except which of equal entries it takes, and faster on long rows: the k largest entries are in the k
    sets of columns with the largest maxima, so only these are searched.
    """
    rows, columns = similarities.shape
    if columns < 4 * SET_SIZE * k:
        found = similarities.topk(min(k, columns), dim=1, sorted=False)
        return found.values, found.indices
    sets = columns // SET_SIZE  # set j holds the columns j, j + sets, j + 2 sets, ...; what is left over is looked at too
    maxima = similarities[:, : sets * SET_SIZE].unflatten(1, (SET_SIZE, sets)).amax(dim=1)  # (Q, sets)
    best = maxima.topk(k, dim=1, sorted=False).indices[:, None]  # (Q, 1, k)
    members = (best + sets * torch.arange(SET_SIZE, device=best.device)[:, None]).flatten(1)
    rest = torch.arange(sets * SET_SIZE, columns, device=best.device).expand(rows, -1)
    candidates = torch.cat([members, rest], dim=1) if columns % SET_SIZE else members
    found = similarities.gather(1, candidates).topk(k, dim=1, sorted=False)
    return found.values, candidates.gather(1, found.indices)


def kernel_query(query: Tensor, grid: tuple[int, int]) -> Tensor:
    """Embedded query keys (Q, C) of a grid (h, w) with their position: (Q, C + 3), for what `kernel_memory` makes."""
    return torch.cat([query, _positions(grid, query), torch.ones_like(query[:, :1])], dim=1)


def kernel_memory(memory: Tensor, query: Tensor, grid: tuple[int, int], kind: str, *, block: int) -> Tensor:
    """Kernelized memory reading (section E): embedded memory keys (M, C) with a Gaussian each, (M, C + 3).

    The Gaussian lies around the position that is most similar to the memory position, among all of the query, which is
    embedded (Q, C).  The product with `kernel_query` is the similarity plus the Gaussian's logarithm, less the same for all
    memory positions, so that its softmax and top-k are those of exp(similarity) times the Gaussian.  `block` similarities
    are in memory at a time.
    """
    # the query's term of L2, |q|^2, cancels in a softmax over the memory, but not in an arg max over the query
    own = query[:, :-1].square().sum(dim=1) / math.sqrt(query.shape[1] - 1) if kind == "l2" else 0
    best = torch.cat([(part @ query.T - own).argmax(dim=1) for part in memory.split(max(1, block // len(query)))])
    centre = _positions(grid, query)[best]
    # -|p - c|^2 / (2 sigma^2) without its term in p: an inner product of (c, -|c|^2 / 2) / sigma^2 and (p, 1)
    logarithm = torch.cat([centre, -centre.square().sum(dim=1, keepdim=True) / 2], dim=1) / KERNEL_SIGMA**2
    return torch.cat([memory, logarithm], dim=1)


def _positions(grid: tuple[int, int], like: Tensor) -> Tensor:
    """(h w, 2), from the middle of the grid, where products of them are smallest."""
    axes = [torch.arange(side, device=like.device, dtype=like.dtype) - (side - 1) / 2 for side in grid]
    return torch.cartesian_prod(*axes)
