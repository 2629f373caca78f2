"""How sure a result is, from 0 to 1, to show people where to look."""

from collections.abc import Collection, Sequence

from torch import Tensor


def expected_iou(probabilities: Tensor, ids: Sequence[int], there: Collection[int] = ()) -> float:
    """(N+1, h, w), background first, and the objects' ids -> the least J of an object that its probabilities let expect.

    That is the sum of its probabilities within its mask, divided by the mask's area and the sum beyond it.  An object without
    a mask counts only if it must be `there`: then it is lost, and the result is 0.  Without any object, it is 1.
    """
    labels, least = probabilities.argmax(dim=0), 1.0
    for row, number in enumerate(ids, start=1):
        mask, likely = labels == row, probabilities[row].float()
        area = float(mask.sum())
        if area or number in there:
            within = float((likely * mask).sum())
            least = min(least, within / (area + float(likely.sum()) - within) if area else 0.0)
    return least
