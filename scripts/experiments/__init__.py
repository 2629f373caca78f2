"""The tables and figures of the paper, one command each (docs/experiments.md)."""

import util  # noqa: F401 (before PyTorch is loaded)
