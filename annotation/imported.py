"""Masks from files as the given masks of a new session."""

from collections.abc import Mapping

import numpy as np

from annotation.session import Session
from dataset.given_masks import GivenMask
from util.image import object_ids


def import_masks(session: Session, masks: Mapping[int, GivenMask]) -> bool:
    """Add the objects of the masks, by frame, to a session, and give it the masks; returns whether that was done.

    A session that has objects keeps what it has, since people have drawn in it.  A mask states only the objects that it shows,
    or says to be gone, as in `segment_video.py`.
    """
    if session.objects:
        return False
    ids = sorted({i for mask in masks.values() for i in object_ids(mask.labels)})
    added = {i: session.add_object(f"object {i}").id for i in ids}
    new = np.zeros(256, np.uint8)
    new[list(added)] = list(added.values())
    for frame, mask in masks.items():
        stated = {added[i] for i in (*object_ids(mask.labels), *mask.gone)}
        session.give(frame, new[mask.labels], stated=stated)
    return True
