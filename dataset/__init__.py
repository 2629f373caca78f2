"""How data sets lie on disk, and what the network gets from them.  Nothing here imports from `model`."""

import util  # noqa: F401 (before PyTorch is loaded)
