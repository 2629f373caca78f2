"""The memory bank: which frames are remembered, and what each object reads from them (sections 3.3 and 5)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.similarity import (
    affinity,
    embed_memory,
    embed_query,
    kernel_memory,
    kernel_query,
    readout,
    refuse_unknown,
    top_k_of,
)
from util.device import Download, upload

BLOCK = 2**22  # similarities, or numbers read out, held at a time: small enough for a CPU's cache
GPU_BLOCK = 2**24  # large enough to keep a GPU busy with few launches
WITHOUT_WAITS = ("cuda",)  # devices that work asynchronously: a boolean index would make the CPU wait for them
SLAB = 4  # frames per slab: fewer waste less space, more mean fewer stores to search


@dataclass
class _Slab:
    """Space for `SLAB` frames, whose rows are contiguous, so that adding and dropping frames copies nothing."""

    keys: Tensor  # (SLAB * hw, Ck or Ck+1) float32, embedded
    values: dict[int, Tensor]  # for each group of objects (SLAB * hw + 1, N * Cv); the last row means "none", never read


class _TopK(NamedTuple):
    """The most similar memory positions for each query position, in the memory searched so far."""

    similarity: Tensor  # (Q, k) float32
    row: Tensor  # (Q, k) int64: cell * positions in a frame + position


@dataclass(eq=False)
class _Frame:
    cell: int
    groups: int  # number of groups of objects in it
    annotated: bool
    usage: Tensor  # scalar: the sum of its affinities in all reads, if the bank is bounded
    reads: int = 0  # since it was added


class _Part(NamedTuple):
    """The frames from one at which objects enter up to the next such one, or the newest."""

    rows: Tensor  # (M,) int64, as in `_TopK`
    keys: list[Tensor]  # embedded, of these M rows, where they are stored
    entering: range  # groups whose memory starts with the oldest of these frames


class MemoryBank:
    """Stores keys and values of the memory frames (section 3.3) and reads them with top-k (section 5).

    Keys are stored once for all objects.  Objects that enter at the same frame form a group, whose memory starts at that
    frame.  A read therefore goes from the newest frame to the oldest with one running top-k: when it reaches the frame
    where a group entered, the current top-k is that group's.

    `top_k=None` reads all of the memory, as training does.

    `max_frames` (not in the paper) limits the number of frames, a temporary one not counted.  Beyond it, the frame with the
    least usage per read is dropped.  Annotated frames and the newest frame always stay, even beyond the limit.

    `kernel` reads with a Gaussian around each memory position's best match (`kernel_memory`; section E).

    Raises `ValueError` for another similarity and for numbers below 1.
    """

    def __init__(
        self, *, similarity: str = "l2", top_k: int | None = 20, max_frames: int | None = None, kernel: bool = False
    ) -> None:
        refuse_unknown(similarity)
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k: expected at least 1, or None for all of the memory, found {top_k}")
        if max_frames is not None and max_frames < 1:
            raise ValueError(f"max_frames: expected at least 1, or None for no bound, found {max_frames}")
        self.similarity = similarity
        self.top_k = top_k
        self.max_frames = max_frames
        self.kernel = kernel
        self._slabs: list[_Slab] = []
        self._frames: list[_Frame] = []  # the oldest first
        self._free: list[int] = []  # cells that frames have left
        self._group_sizes: list[int] = []
        self._newest_is_temporary = False
        self._positions = 0  # hw
        self._fetched: tuple[list[_Frame], Download] | None = None  # the frames of the last read, and their usage

    @property
    def frames(self) -> int:
        """The number of frames in the bank, including a temporary one."""
        return len(self._frames)

    def add(self, key: Tensor, values: Tensor, *, annotated: bool = False, temporary: bool = False) -> None:
        """Add a frame with its key (Ck, h, w) and its values (N, Cv, h, w).

        N is the number of objects so far; objects beyond the previous frame's N form a new group.  A frame is annotated if
        its mask was given.  A temporary frame stays until the next frame is added.  All frames have the same h, w, Ck and
        Cv.  Raises `ValueError` if h * w differs, there are fewer objects than before, or new ones at a temporary frame.
        """
        known, objects = sum(self._group_sizes), values.shape[0]
        if objects < known or (objects > known and temporary):
            raise ValueError(f"values: expected {known} objects{'' if temporary else ' or more'}, found {objects}")
        grid = key.shape[1:]
        if values.shape[2:] != grid or (self._frames and grid.numel() != self._positions):
            wanted = f"{self._positions} positions, as before" if self._frames else "one grid"
            raise ValueError(f"key and values: expected {wanted}, found {tuple(grid)} and {tuple(values.shape[2:])}")
        self.drop_temporary()
        if objects > known:
            self._group_sizes.append(objects - known)
        keys = embed_memory(key.flatten(1).T, self.similarity)  # (hw, Ck or Ck+1)
        self._positions = len(keys)
        cell = self._free.pop() if self._free else len(self._frames)  # if none is free, every cell holds a frame
        if cell == SLAB * len(self._slabs):
            self._slabs.append(_Slab(keys.new_empty(SLAB * len(keys), keys.shape[1]), {}))
        slab = self._slabs[cell // SLAB]
        self._rows(slab.keys, cell).copy_(keys)
        for number, group in enumerate(values.split(self._group_sizes)):
            rows = group.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)  # (hw, N * Cv)
            if number not in slab.values:
                slab.values[number] = rows.new_empty(SLAB * len(rows) + 1, rows.shape[1])
            self._rows(slab.values[number], cell).copy_(rows)
        # no earlier frame shows the new objects, so the first one that does must stay
        kept = annotated or objects > known
        self._frames.append(_Frame(cell, len(self._group_sizes), kept, torch.zeros((), device=key.device)))
        self._newest_is_temporary = temporary
        if self.max_frames is not None and not temporary and len(self._frames) > self.max_frames:
            old = [frame for frame in self._frames[:-1] if not frame.annotated]
            if old:
                self._drop(self._least_used(old))

    def drop_temporary(self) -> None:
        """Drop the newest frame if it is a temporary one."""
        if self._newest_is_temporary:
            self._drop(self._frames[-1])
            self._newest_is_temporary = False

    def read(self, query_key: Tensor) -> Tensor:
        """Read the memory at each query position: (Ck, h, w) -> (N, Cv, h, w).  Raises `ValueError` if it is empty."""
        if not self._frames:
            raise ValueError("the memory is empty")
        query = embed_query(query_key.flatten(1).T, self.similarity).contiguous()
        with torch.autocast(query.device.type, enabled=False):
            keys = [slab.keys for slab in self._slabs]
            if self.kernel:
                grid = (query_key.shape[1], query_key.shape[2])
                keys = [kernel_memory(rows, query, grid, self.similarity, block=_block(query.device)) for rows in keys]
                query = kernel_query(query, grid)
            readouts = self._read_all(query, keys) if self.top_k is None else self._read_top_k(query, keys)
        for frame in self._frames:
            frame.reads += 1
        self._fetch_usage()
        # (Q, N * Cv) for each group -> (N, Cv, h, w)
        objects = [part.unflatten(1, (size, -1)) for part, size in zip(readouts, self._group_sizes, strict=True)]
        together = objects[0] if len(objects) == 1 else torch.cat(objects, dim=1)
        return together.permute(1, 2, 0).unflatten(2, query_key.shape[1:])

    def state_dict(self) -> dict[str, Any]:
        """The bank's content as tensors, numbers and lists, for `torch.save`.

        The tensors are not copied: save them before the next `add`.
        """
        return {
            "slabs": [vars(slab).copy() for slab in self._slabs],
            "frames": [vars(frame).copy() for frame in self._frames],
            "free": list(self._free),
            "group_sizes": list(self._group_sizes),
            "newest_is_temporary": self._newest_is_temporary,
            "positions": self._positions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`, without copying its tensors; reads then return the same bits as before.

        The bank must have the same options, and the tensors must be on the device that it works on.
        """
        self._slabs = [_Slab(saved["keys"], dict(saved["values"])) for saved in state["slabs"]]
        self._frames = [_Frame(**saved) for saved in state["frames"]]
        self._free, self._group_sizes = list(state["free"]), list(state["group_sizes"])
        self._newest_is_temporary, self._positions = state["newest_is_temporary"], state["positions"]
        self._fetch_usage()

    def _drop(self, frame: _Frame) -> None:
        self._frames.remove(frame)
        self._free.append(frame.cell)

    def _least_used(self, frames: list[_Frame]) -> _Frame:
        """The frame with the least usage per read; the first of equals."""
        if self._fetched is None:
            return frames[0]
        read, usage = self._fetched
        used = dict(zip(read, usage.get().tolist(), strict=True))  # without frames added after the last read
        return min(frames, key=lambda frame: used.get(frame, 0.0) / max(1, frame.reads))

    def _parts(self, keys: list[Tensor]) -> list[_Part]:
        """The memory from its newest part to its oldest, given the keys of each slab."""
        parts = []
        runs: list[range] = []  # of cells that follow each other in a slab, as long as possible
        for index in reversed(range(len(self._frames))):
            frame = self._frames[index]
            entering = range(self._frames[index - 1].groups if index > 0 else 0, frame.groups)
            if runs and runs[-1].start == frame.cell + 1 and runs[-1].start % SLAB:
                runs[-1] = range(frame.cell, runs[-1].stop)
            else:
                runs.append(range(frame.cell, frame.cell + 1))
            if entering:
                ends = [(run.start * self._positions, run.stop * self._positions) for run in runs]
                rows = torch.cat([torch.arange(*of_run, device=keys[0].device) for of_run in ends])
                parts.append(_Part(rows, [self._rows(keys[run.start // SLAB], run.start, len(run)) for run in runs], entering))
                runs = []
        return parts

    def _read_top_k(self, query: Tensor, keys: list[Tensor]) -> list[Tensor]:
        """The readout (Q, N * Cv) of each group, given the keys of each slab."""
        parts = self._parts(keys)
        longest = max(len(part.rows) for part in parts)
        found: list[list[_TopK]] = [[] for _ in self._group_sizes]
        size = min(len(query), max(1, _block(query.device) // longest))
        space = query.new_empty(size * longest)  # for all blocks, since new memory costs the CPU as much as the product
        for block in query.split(size):
            best = None
            for part in parts:
                best = self._more_similar(best, part, block, space)
                for group in part.entering:
                    found[group].append(best)
        readouts = []
        for group, blocks in enumerate(found):
            row = torch.cat([best.row for best in blocks])
            weight = affinity(torch.cat([best.similarity for best in blocks]))
            readouts.append(self._sum_of_rows(row, weight, group))
            if self.max_frames is not None:
                self._note_usage(row.flatten() // self._positions, weight.flatten())
        return readouts

    def _more_similar(self, best: _TopK | None, part: _Part, query: Tensor, space: Tensor) -> _TopK:
        """Update the running top-k of some query positions (Q, C) with a part of the memory, of M rows; `space` has room for
        Q M similarities.
        """
        assert self.top_k is not None
        similarities = space[: len(query) * len(part.rows)].view(len(query), -1)
        for columns, keys in zip(similarities.split([len(keys) for keys in part.keys], dim=1), part.keys, strict=True):
            torch.mm(query, keys.T, out=columns)
        found, column = top_k_of(similarities, self.top_k)
        row = part.rows[column]
        if best is None:
            return _TopK(found, row)
        found, row = torch.cat([best.similarity, found], dim=1), torch.cat([best.row, row], dim=1)
        found, order = found.topk(min(self.top_k, found.shape[1]), dim=1, sorted=False)
        return _TopK(found, row.gather(1, order))

    def _sum_of_rows(self, row: Tensor, weight: Tensor, group: int) -> Tensor:
        """The weighted sum of k value rows for each query position: (Q, k) and (Q, k) -> (Q, N * Cv)."""
        stores = {number: slab.values[group] for number, slab in enumerate(self._slabs) if group in slab.values}
        any_store = next(iter(stores.values()))
        total = any_store.new_zeros(len(row), any_store.shape[1])
        weight = weight.to(any_store.dtype)
        in_slab = SLAB * self._positions
        size = max(1, _block(row.device) // (4 * any_store.shape[1]))
        for block_row, block_weight, block_total in zip(*(x.split(size) for x in (row, weight, total)), strict=True):
            slab, local = block_row // in_slab, block_row % in_slab
            for number, values in stores.items():
                inside = slab == number
                if row.device.type in WITHOUT_WAITS:  # take all rows; those of other slabs become the last, which is skipped
                    none = len(values) - 1
                    bags = torch.where(inside, local, none), values, None
                    options: dict[str, Any] = {"per_sample_weights": block_weight, "padding_idx": none}
                else:
                    count = inside.sum(dim=1)
                    bags = local[inside], values, count.cumsum(0) - count
                    options = {"per_sample_weights": block_weight[inside]}
                block_total += F.embedding_bag(*bags, mode="sum", **options)
        return total

    def _read_all(self, query: Tensor, slab_keys: list[Tensor]) -> list[Tensor]:
        readouts = []
        for group in range(len(self._group_sizes)):
            frames = [frame for frame in self._frames if group < frame.groups]
            slab_values = {i: slab.values[group] for i, slab in enumerate(self._slabs) if group in slab.values}
            keys, values = (
                torch.cat([self._rows(stores[frame.cell // SLAB], frame.cell) for frame in frames])
                for stores in (slab_keys, slab_values)
            )
            weight = affinity(query @ keys.T)  # (Q, M)
            readouts.append(readout(weight[None], values[None, :, None])[0, :, 0])
            if self.max_frames is not None:
                cells = upload(torch.tensor([frame.cell for frame in frames]), query.device)
                self._note_usage(cells, weight.sum(dim=0).unflatten(0, (len(frames), -1)).sum(dim=1))
        return readouts

    def _rows(self, store: Tensor, cell: int, frames: int = 1) -> Tensor:
        """The rows (frames * hw, C) of the frame in a cell of a slab's store, and of those in the next cells."""
        return store[cell % SLAB * self._positions :][: frames * self._positions]

    def _note_usage(self, cells: Tensor, affinities: Tensor) -> None:
        """Add a group's affinities (n,) for cells (n,) to the usage of their frames."""
        used = affinities.new_zeros(SLAB * len(self._slabs)).index_add(0, cells, affinities)
        new = torch.stack([used[frame.cell] for frame in self._frames])
        total = torch.stack([frame.usage for frame in self._frames]) + new
        for frame, usage in zip(self._frames, total.unbind(), strict=True):
            frame.usage = usage

    def _fetch_usage(self) -> None:
        """Start copying the usage to the CPU, where `add` needs it to choose the frame to drop."""
        if self.max_frames is not None and self._frames:
            usage = torch.stack([frame.usage for frame in self._frames])
            self._fetched = list(self._frames), Download(usage)


def _block(device: torch.device) -> int:
    return GPU_BLOCK if device.type in WITHOUT_WAITS else BLOCK
