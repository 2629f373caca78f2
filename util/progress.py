"""Progress bars."""

import sys

import progressbar


def progress_bar(
    total: int, unit: str, *, shown: bool = True, start: int = 0, figures: tuple[str, ...] = ()
) -> progressbar.ProgressBar:
    """A bar with count, rate and time left on standard error; use it as a context and call `increment()`.

    A terminal redraws it in place; a log file gets a line now and then.  `shown=False` draws nothing.  `start` is the number
    of items already done.  `figures` are the names of extra values to show; pass them to `update` by name.
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
    """Items per second since the start of this run."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def __call__(self, progress, data, **_) -> str:
        seconds = data["total_seconds_elapsed"]
        done = data["value"] - self.start
        return f"{done / seconds:.2f}" if done > 0 and seconds else "-"
