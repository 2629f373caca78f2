"""Speed and memory of videos, frames and training steps: `python -m scripts.benchmark`."""

import util  # noqa: F401 (before PyTorch is loaded)
