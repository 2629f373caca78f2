"""The parts of STCN without weights: similarity, affinity and readout (sections 3.2 and 4), and the memory bank (3.3).

Axes: M memory positions, Q query positions, Ck key channels, Cv value channels, N objects.  Matrices that the paper
writes as (M, Q) lie here as (Q, M), since everything that is done with them (softmax, top-k) runs along the memory.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITIES = ("l2", "dot", "cosine")
COSINE_TEMPERATURE = 0.01  # section 4.2


def similarity(memory_key: Tensor, query_key: Tensor, kind: str = "l2") -> Tensor:
    """Similarity of each memory position to each query position (equations 3 to 5), scaled for the softmax.

    (B, M, Ck) and (B, Q, Ck) -> (B, Q, M), in float32 whatever comes in and under autocast.  `l2` is the negative
    squared Euclidean distance less its query term, which no softmax over memory sees; `l2` and `dot` are divided by
    sqrt(Ck), `cosine` by the temperature 0.01.  Raises `ValueError` for another `kind`.
    """
    # float32, since half precision would round away the small differences between large similarities
    with torch.autocast(memory_key.device.type, enabled=False):
        memory_key, query_key = memory_key.float(), query_key.float()
        scale = 1 / math.sqrt(query_key.shape[-1])
        if kind == "l2":
            squared_norm = memory_key.square().sum(dim=-1)[:, None]  # (B, 1, M)
            return torch.baddbmm(squared_norm, query_key, memory_key.mT, beta=-scale, alpha=2 * scale)
        if kind == "dot":
            return torch.bmm(query_key * scale, memory_key.mT)
        if kind == "cosine":
            query_key = F.normalize(query_key, dim=-1) / COSINE_TEMPERATURE
            return torch.bmm(query_key, F.normalize(memory_key, dim=-1).mT)
    raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, found {kind!r}")


def affinity(similarities: Tensor) -> Tensor:
    """The softmax over memory of equation 1: (..., M) float32 -> (..., M), which sums to 1."""
    return torch.softmax(similarities, dim=-1)


def readout(affinities: Tensor, values: Tensor) -> Tensor:
    """The weighted sum of equation 2, one affinity for all objects: (B, Q, M) and (B, M, N, Cv) -> (B, Q, N, Cv)."""
    return torch.bmm(affinities.to(values.dtype), values.flatten(2)).unflatten(2, values.shape[2:])


class _TopK(NamedTuple):
    """The most similar memory positions of each query position, among the memory looked at so far."""

    similarity: Tensor  # (Q, k) float32
    row: Tensor  # (Q, k) int64: frame in the bank * positions in a frame + position


class _Frame(NamedTuple):
    key: Tensor  # (hw, Ck)
    values: list[Tensor]  # for each group of objects (hw, N, Cv), rows contiguous


class MemoryBank:
    """Keys and values of the memory frames (section 3.3), and the reading of them with top-k (section 5).

    Keys are stored once for all objects.  Objects that enter at the same frame are a group, whose memory starts at that
    frame.  The bank is therefore walked from the newest frame to the oldest with one running top-k: when the walk has
    come to the frame where a group entered, the top-k is that group's.

    `top_k=None` reads all of the memory, as training does.
    """

    def __init__(self, *, similarity: str = "l2", top_k: int | None = 20) -> None:
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, found {similarity!r}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k: expected at least 1, or None for all of the memory, found {top_k}")
        self.similarity = similarity
        self.top_k = top_k
        self._frames: list[_Frame] = []
        self._group_sizes: list[int] = []
        self._newest_is_temporary = False

    @property
    def frames(self) -> int:
        """How many frames the bank holds, a temporary one included."""
        return len(self._frames)

    def add(self, key: Tensor, values: Tensor, *, temporary: bool = False) -> None:
        """Remember a frame: its key (Ck, h, w) and its values (N, Cv, h, w).

        N is the number of objects so far; those beyond the last frame's N are a new group.  A temporary frame stays
        until the next one is added.
        """
        if self._newest_is_temporary:
            self._frames.pop()
        known, objects = sum(self._group_sizes), values.shape[0]
        assert objects >= known, f"{objects} objects after {known}: objects stay"
        if objects > known:
            assert not temporary, "objects enter at a permanent frame"
            self._group_sizes.append(objects - known)
        rows = values.permute(2, 3, 0, 1).flatten(0, 1)  # (hw, N, Cv)
        groups = [group.contiguous() for group in rows.split(self._group_sizes, dim=1)]
        self._frames.append(_Frame(key.flatten(1).T.contiguous(), groups))
        self._newest_is_temporary = temporary

    def read(self, query_key: Tensor) -> Tensor:
        """What the memory says at each query position: (Ck, h, w) -> (N, Cv, h, w)."""
        assert self._frames, "nothing to read"
        height, width = query_key.shape[1:]
        query = query_key.flatten(1).T.contiguous()  # (Q, Ck)
        readouts = self._read_all(query) if self.top_k is None else self._read_top_k(query)
        return torch.cat(readouts, dim=1).permute(1, 2, 0).unflatten(2, (height, width))  # (N, Cv, h, w)

    def _read_top_k(self, query: Tensor) -> list[Tensor]:
        """For each group its readout (Q, N, Cv)."""
        readouts = []
        best = None
        for index in reversed(range(len(self._frames))):
            best = self._more_similar(best, index, query)
            for group in reversed(self._groups_entering(index)):
                readouts.append(self._sum_of_rows(best.row, affinity(best.similarity), group))
        return readouts[::-1]

    def _more_similar(self, best: _TopK | None, index: int, query: Tensor) -> _TopK:
        """The running top-k after a look at one more frame."""
        key = self._frames[index].key
        similarities = similarity(key[None], query[None], self.similarity)[0]  # (Q, hw)
        found, position = similarities.topk(min(self.top_k, len(key)), dim=-1, sorted=False)
        row = position + index * len(key)
        if best is None:
            return _TopK(found, row)
        found, row = torch.cat([best.similarity, found], dim=-1), torch.cat([best.row, row], dim=-1)
        found, order = found.topk(min(self.top_k, found.shape[-1]), dim=-1, sorted=False)
        return _TopK(found, row.gather(-1, order))

    def _sum_of_rows(self, row: Tensor, weight: Tensor, group: int) -> Tensor:
        """The k value rows of each query position, weighted and summed: (Q, k) and (Q, k) -> (Q, N, Cv)."""
        positions = len(self._frames[0].key)
        total = None
        for index, frame in enumerate(self._frames):
            if group >= len(frame.values):
                continue
            inside = row // positions == index  # (Q, k)
            count = inside.sum(dim=-1)
            bag = F.embedding_bag(
                (row - index * positions)[inside],
                frame.values[group].flatten(1),
                offsets=count.cumsum(0) - count,
                per_sample_weights=weight[inside].to(frame.values[group].dtype),
                mode="sum",
            )
            total = bag if total is None else total.add_(bag)
        return total.unflatten(1, self._frames[-1].values[group].shape[1:])

    def _read_all(self, query: Tensor) -> list[Tensor]:
        readouts = []
        for group in range(len(self._group_sizes)):
            frames = [frame for frame in self._frames if group < len(frame.values)]
            key = torch.cat([frame.key for frame in frames])
            values = torch.cat([frame.values[group] for frame in frames])
            readouts.append(readout(affinity(similarity(key[None], query[None], self.similarity)), values[None])[0])
        return readouts

    def _groups_entering(self, index: int) -> range:
        before = len(self._frames[index - 1].values) if index > 0 else 0
        return range(before, len(self._frames[index].values))
