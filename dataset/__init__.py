"""Data sets: their layout on disk, and the samples that the network gets.  Nothing here imports from `model`."""

import util  # noqa: F401 (must come before PyTorch is loaded)
