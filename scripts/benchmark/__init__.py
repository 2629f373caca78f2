"""Measurements of what the project does; they report and judge nothing."""

import util  # noqa: F401 (before PyTorch is loaded)
