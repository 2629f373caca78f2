"""The parts of a training run: its flags, its start, its state, the loop, one step, and the log."""

import util  # noqa: F401 (must come before PyTorch is loaded)
