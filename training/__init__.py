"""The parts of a training run: one step, the run's state, its start, and its log."""

import util  # noqa: F401 (must come before PyTorch is loaded)
