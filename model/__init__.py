"""The network, its memory, and the segmentation of a video with them."""

import util  # noqa: F401 (before PyTorch is loaded)
from model.checkpoint import load_for_inference, load_network, save_network
from model.inference import VideoSegmenter, blend
from model.memory import MemoryBank
from model.network import STCN, NetworkConfig
from model.stm import STM, make_network

__all__ = [
    "STCN",
    "STM",
    "MemoryBank",
    "NetworkConfig",
    "VideoSegmenter",
    "blend",
    "load_for_inference",
    "load_network",
    "make_network",
    "save_network",
]
