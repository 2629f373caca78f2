"""The robot that scribbles in place of a person."""

import numpy as np
import pytest
from skimage.morphology import skeletonize

from dataset.robot import UNMARKED, click_radius, draw_box, draw_clicks, draw_scribbles, longest_path


def furthest_by_all_pairs(skeleton: np.ndarray) -> float:
    """The greatest distance along a skeleton between any two of its pixels (Floyd and Warshall)."""
    pixels = np.argwhere(skeleton)
    steps = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)
    between = np.where(steps < 1.5, steps, np.inf)
    for middle in range(len(pixels)):
        between = np.minimum(between, between[:, middle, None] + between[None, middle])
    return between.max()


@pytest.mark.parametrize("seed", range(4))
def test_the_longest_path_is_that_of_a_search_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    skeleton = np.zeros((30, 30), bool)
    row, column = 15, 15
    for _ in range(60):  # a walk that never touches itself has no loops
        skeleton[row, column] = True
        row, column = row + rng.integers(-1, 2), column + 1 if column < 29 else 29
        row = min(29, max(0, row))
    skeleton = skeletonize(skeleton)
    path = longest_path(skeleton)
    assert skeleton[tuple(path.T)].all()
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert (steps < 1.5).all()
    assert steps.sum() == pytest.approx(furthest_by_all_pairs(skeleton))


def test_of_a_tree_the_longest_path_leaves_out_the_short_branch():
    skeleton = np.zeros((20, 30), bool)
    skeleton[10, 2:27] = True
    skeleton[5:10, 14] = True
    path = longest_path(skeleton)
    assert {tuple(path[0]), tuple(path[-1])} == {(10, 2), (10, 26)}
    assert longest_path(np.eye(1, dtype=bool)).tolist() == [[0, 0]]


def scene() -> np.ndarray:
    truth = np.zeros((240, 320), np.uint8)
    truth[40:120, 40:200] = 1
    truth[150:200, 220:300] = 2
    return truth


def test_without_a_result_each_object_gets_a_scribble_and_the_background_none():
    truth = scene()
    scribbles = draw_scribbles(truth)
    marked = scribbles != UNMARKED
    assert set(np.unique(scribbles[marked])) == {1, 2}
    assert (scribbles[marked] == truth[marked]).all()
    columns = np.nonzero((scribbles == 1).any(axis=0))[0]
    assert np.ptp(columns) > 160 / 2  # along the object


def test_scribbles_are_where_the_result_is_wrong_and_say_what_is_right():
    truth = scene()
    found = truth.copy()
    found[40:120, 40:100] = 0  # a part of object 1 is missing
    found[150:200, 220:300] = 1  # object 2 is taken for object 1
    found[10:30, 250:310] = 2  # background is taken for object 2
    found[60, 120:190] = 2  # thinner than the brush
    scribbles = draw_scribbles(truth, found)
    marked = scribbles != UNMARKED
    assert (scribbles[marked] == truth[marked]).all()
    assert set(np.unique(scribbles[marked])) == {0, 1, 2}
    inside = np.s_[40:120, 40:102], np.s_[150:200, 220:300], np.s_[9:31, 249:311]
    outside = marked.copy()
    for part in inside:
        assert marked[part].any()
        outside[part] = False
    assert not outside.any()


def test_the_largest_regions_come_first_and_a_right_result_needs_no_scribble():
    truth = np.zeros((240, 320), np.uint8)
    for i, size in enumerate((10, 20, 30, 40, 50)):
        truth[20 : 20 + size, 60 * i + 5 : 60 * i + 5 + size] = 1
    scribbles = draw_scribbles(truth, np.zeros_like(truth), strokes=2)
    touched = [bool((scribbles[:, 60 * i : 60 * i + 60] == 1).any()) for i in range(5)]
    assert touched == [False, False, False, True, True]
    assert (draw_scribbles(truth, truth) == UNMARKED).all()
    assert (draw_scribbles(np.zeros_like(truth)) == UNMARKED).all()


def test_random_strokes_are_parts_of_the_same_paths_and_repeat_with_the_seed():
    truth = scene()
    whole = draw_scribbles(truth) != UNMARKED
    one, two, other = (draw_scribbles(truth, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()
    for scribbles in (one, other):
        assert 0 < np.count_nonzero(scribbles != UNMARKED) < np.count_nonzero(whole)
        assert whole[scribbles != UNMARKED].all()


def test_the_brush_grows_with_the_frame():
    widths = []
    for height, width in ((240, 320), (480, 640)):
        truth = np.zeros((height, width), np.uint8)
        truth[height // 4 : height // 2, width // 8 : -width // 8] = 1
        widths.append(int((draw_scribbles(truth)[:, width // 2] == 1).sum()))
    assert widths == [3, 5]


def test_a_click_lies_deepest_in_the_largest_wrong_region():
    truth = np.zeros((96, 128), np.uint8)
    truth[10:51, 20:41] = 1  # 41 rows, 21 columns: its middle lies in row 30, column 30
    truth[60:70, 90:100] = 1
    (one, both) = (draw_clicks(truth, clicks=clicks) for clicks in (1, 2))
    y, x = np.nonzero(one == 1)
    assert 19 < y.mean() < 41  # all rows from 20 to 40 are as deep
    assert x.mean() == 30
    assert np.ptp(x) == 2 * click_radius(96)
    assert (both[60:70, 90:100] == 1).any()
    found = truth.copy()
    found[10:51, 35:80] = 1  # 39 columns too many
    assert set(np.unique(draw_clicks(truth, found))) == {0, UNMARKED}
    assert (draw_clicks(truth, truth) == UNMARKED).all()


def test_random_clicks_and_boxes_stay_within_what_is_true_and_repeat_with_the_seed():
    truth = np.zeros((96, 128), np.uint8)
    truth[10:51, 20:61] = 1
    assert np.array_equal(draw_box(truth > 0), truth)
    for seed in range(8):
        marks, again = (draw_clicks(truth, rng=np.random.default_rng(seed)) for _ in range(2))
        assert (marks == again).all()
        assert (truth[marks == 1] == 1).all()
        inside = draw_box(truth > 0, np.random.default_rng(seed))
        assert inside[truth > 0].all()
        inside[5:56, 15:66] = False
        assert not inside.any()
