"""Videos in, masks and scores out."""

import util  # noqa: F401 (before PyTorch is loaded)
