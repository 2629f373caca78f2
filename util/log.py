"""Progress on the terminal, and running means of what training measures."""

import sys
from typing import Any

import progressbar
import torch
from torch import Tensor

from util.distributed import Group


def progress_bar(
    total: int, unit: str, *, shown: bool = True, start: int = 0, figures: tuple[str, ...] = ()
) -> progressbar.ProgressBar:
    """A bar with count, rate and time left on standard error; use it as a context and call `increment()`.

    On a terminal it is redrawn in place, in a log file it is a line now and then.  `shown=False` draws nothing.  `start`
    is what was done before; `figures` are shown beside the count, given by name to `update`.
    """
    if not shown:
        return progressbar.NullBar(max_value=total)
    terminal = sys.stderr.isatty()
    widgets = [
        progressbar.Percentage(),
        f" {unit} ",
        progressbar.SimpleProgress(format="%(value_s)s of %(max_value_s)s"),
        " ",
        progressbar.Bar(),
        " ",
        *[widget for name in figures for widget in (progressbar.Variable(name, width=6, precision=4), " ")],
        _Rate(start),
        f" {unit}/s ",
        progressbar.AdaptiveETA(),
    ]
    return progressbar.ProgressBar(
        initial_value=start,
        max_value=total,
        widgets=widgets,
        fd=sys.stderr,
        min_poll_interval=0.5 if terminal else 15,
        is_terminal=terminal,
    )


class _Rate(progressbar.widgets.WidgetBase):
    """Counts a second since the start."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def __call__(self, progress, data, **_) -> str:
        seconds = data["total_seconds_elapsed"]
        done = data["value"] - self.start
        return f"{done / seconds:.2f}" if done > 0 and seconds else "-"


class RunningMeans:
    """Means of figures over iterations and processes, which survive a stop: they are part of the checkpoint.

    An iteration is a row for each figure of its sum and its count.  Rows stay on the device until `gather`, so that
    nobody waits for it each step.
    """

    def __init__(self, names: tuple[str, ...], group: Group) -> None:
        self.names = names
        self.group = group
        self.nonfinite = 0  # gathered iterations, in a row up to the last, whose loss was not finite
        self.longest_nonfinite = 0  # the longest such row
        self.bad_samples: list[str] = []  # of this process, in the last such iteration
        self._new: list[tuple[Tensor, list[str]]] = []
        self._gathered = torch.zeros(0, len(names), 2)

    def add(self, row: Tensor, samples: list[str]) -> None:
        """An iteration's row (len(names), 2), and the names of its samples."""
        self._new.append((row.detach(), samples))

    def gather(self) -> None:
        """Sum the new rows over the processes; all of them call this after the same iteration."""
        if not self._new:
            return
        rows = self.group.sum(torch.stack([row for row, _ in self._new]).float().cpu())
        losses = [name.startswith("loss/") for name in self.names]
        for row, (_, samples) in zip(rows, self._new, strict=True):
            if row[losses].isfinite().all():
                self.nonfinite = 0
            else:
                self.nonfinite += 1
                self.longest_nonfinite = max(self.longest_nonfinite, self.nonfinite)
                self.bad_samples = samples
        self._new = []
        self._gathered = torch.cat([self._gathered, rows])

    def flush(self) -> dict[str, float]:
        """The means since the last flush, by name; a figure that was never counted is left out."""
        self.gather()
        sums = self._gathered.double().sum(dim=0)
        self._gathered = self._gathered[:0]
        return {name: (total / count).item() for name, (total, count) in zip(self.names, sums, strict=True) if count > 0}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, after `gather`."""
        return {"rows": self._gathered.clone(), "nonfinite": self.nonfinite}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._gathered, self.nonfinite = state["rows"], state["nonfinite"]
