"""What makes segmenters as the flags of a script say."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.flags import network_options, segmenter_options
from model import VideoSegmenter, load_for_inference
from model.checkpoint import digest
from util.device import device_of, half_precision_chosen, use_threads


def segmenters_of(arguments: argparse.Namespace, *records: Path) -> tuple[Callable[[], VideoSegmenter], dict[str, Any]]:
    """What makes a segmenter for each video as the flags say, and, as JSON values, what its results depend on.

    `records` are as for `network_options`.  Raises `InputError` if the device or the checkpoint cannot be used.
    """
    device = device_of(arguments.device)
    use_threads(arguments.threads)
    options, amp = segmenter_options(arguments), half_precision_chosen(arguments.amp, device)
    network = load_for_inference(arguments.model, device, amp=amp, **network_options(arguments, *records))
    how = {"amp": amp, "winograd": network.winograd, "compile": arguments.compile, "device": device.type}
    settings = {**options, **how, "model": digest(arguments.model)}
    return partial(VideoSegmenter, network, **options), settings
