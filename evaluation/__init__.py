"""Segmentation of videos, and scores."""

import util  # noqa: F401 (must come before PyTorch is loaded)
