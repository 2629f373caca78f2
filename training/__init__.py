"""What a training run is made of: a step, what changes, where it starts, and what it tells."""

import util  # noqa: F401 (before PyTorch is loaded)
