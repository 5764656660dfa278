from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation import (
    Confusion,
    Points,
    TierCalibration,
    confusion_figure,
    curve_figure,
    draw_figures,
    evaluate,
    frontier_figure,
    hull,
    labels_figure,
    reliability,
    reliability_figure,
    to_png,
)
from router_ml.evaluation.calibration import calibration_error
from router_ml.evaluation.label_placement import Box, place_labels

LONG = ["mistralai/mistral-7b-chat", "mistralai/mixtral-8x7b-chat", "zero-one-ai/Yi-34B-Chat", "gpt-4-1106-preview"]


def frontier(cost, quality, names=LONG):
    return frontier_figure({"value": hull(cost, quality)}, Points(np.array(cost), np.array(quality)), names)


def extents(figure, texts):
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in texts]


@pytest.mark.parametrize("cost", [[1e-4, 1.1e-4, 1.2e-4, 8e-3], [1e-4, 1.1e-4, 1.2e-4, 2e-4]])
def test_the_names_of_tiers_overlap_neither_each_other_nor_the_frame(cost):
    figure = frontier(cost, [0.5, 0.51, 0.52, 0.9])
    axes = figure.axes[0]
    boxes = extents(figure, axes.texts)
    assert [text.get_text() for text in axes.texts] == LONG
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


@pytest.mark.parametrize(("dearest", "scale"), [(21e-4, "log"), (19e-4, "linear")])
def test_the_cost_axis_is_log_only_over_a_wide_range(dearest, scale):
    figure = frontier([1e-4, 2e-4, 3e-4, dearest], [0.1, 0.2, 0.3, 0.4])
    assert figure.axes[0].get_xscale() == scale
    assert "USD per 1,000 requests" in figure.axes[0].get_xlabel()


def test_the_learning_curve_names_each_size_and_its_figure():
    axes = curve_figure([(100, -0.02), (300, 0.05), (7179, 0.1)]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "300", "7,179"]
    assert [text.get_text() for text in axes.texts] == ["-2.0 %", "5.0 %", "10.0 %"]


def test_a_learning_curve_without_points_is_refused():
    with pytest.raises(InputError, match="learning curve"):
        curve_figure([])


def test_a_free_tier_keeps_the_axis_linear():
    assert frontier([0.0, 2e-4, 3e-4, 1.0], [0.1, 0.2, 0.3, 0.4]).axes[0].get_xscale() == "linear"


def test_a_mix_is_drawn_as_a_straight_line_in_cost():
    line = frontier([1e-4, 2e-4, 3e-4, 1e-2], [0.1, 0.0, 0.0, 0.4]).axes[0].lines[0]
    cost, quality = line.get_data()
    assert np.interp(5.05, cost, quality) == pytest.approx(0.25, abs=1e-3)


def test_each_tier_has_a_panel_and_a_tier_that_was_never_tried_an_empty_one():
    p, y = np.random.default_rng(0).random((2, 100))
    met, never = y < p, np.full(100, np.nan)
    seen = TierCalibration(LONG[0], 100, calibration_error(p, met, random_state=0), reliability(p, met))
    unseen = TierCalibration(LONG[1], 0, calibration_error(p, never, random_state=0), reliability(p, never))
    figure = reliability_figure([seen, unseen, seen, seen])
    assert sum(axes.get_visible() for axes in figure.axes) == 4
    assert to_png(figure)


def test_at_most_fifteen_slices_are_drawn_and_the_rest_merged():
    counts = {f"slice-{k:02d}": {"mini": 100 - k, "none": k} for k in range(40)}
    axes = labels_figure(counts, ["mini", "none"]).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 15
    assert names[-1] == "other, 26 slices (2,600)"
    assert axes.containers[1][-1].get_width() == pytest.approx(sum(range(14, 40)) / 2600)


def test_slices_without_counts_are_refused():
    with pytest.raises(InputError, match="got 0 slices"):
        labels_figure({}, ["mini"])


def test_the_confusion_shows_every_count_and_its_names_are_not_cut_off():
    found = Confusion((*LONG, "none"), tuple(LONG), tuple(tuple(range(k, k + 4)) for k in range(1000, 1005)), 0)
    figure = confusion_figure(found)
    axes = figure.axes[0]
    assert axes.texts[0].get_text() == "1,000"
    assert len(axes.texts) == 20
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    for box in extents(figure, labels):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1


def test_an_evaluation_has_a_figure_for_each_view(draw):
    world = draw(np.random.default_rng(0), 80, 1.0)
    found = evaluate(
        world.quality_hat, world.quality_hat, world.cost_hat, world.quality, world.cost, tiers=["a", "b", "c"],
        default_choice=np.zeros(80, dtype=int), meets=world.quality, random_state=0, n_resamples=5,
        slices={"source": np.array(["x"] * 80)},
    )  # fmt: skip
    drawn = draw_figures(found)
    assert list(drawn) == ["frontier", "reliability", "confusion", "labels by source"]
    assert all(to_png(figure).startswith(b"\x89PNG") for figure in drawn.values())


def test_the_same_figure_is_the_same_bytes_each_time():
    first, second = (frontier([1e-4, 2e-4, 3e-4, 1e-2], [0.1, 0.2, 0.3, 0.4]) for _ in range(2))
    assert to_png(first) == to_png(second)


def test_labels_of_points_in_one_place_do_not_overlap():
    boxes = place_labels(np.full((6, 2), 200.0), [(80.0, 12.0)] * 6, np.empty((0, 2)), Box(0, 0, 400, 400))
    assert not any(a.overlap(b) for a, b in combinations(boxes, 2))
    assert all(min(box.left, box.bottom) >= 0 and max(box.right, box.top) <= 400 for box in boxes)


def test_a_label_touches_no_points_dot():
    # The first place tried for the first label ends just short of the middle of the second point.
    points, radius = np.array([[200.0, 200.0], [259.0, 189.0]]), 3.0
    boxes = place_labels(points, [(60.0, 12.0)] * 2, np.empty((0, 2)), Box(0, 0, 400, 400))
    assert all(box.grown(radius).covered(points) == 0 for box in boxes)


def test_a_label_avoids_the_curve():
    curve = np.column_stack((np.linspace(0, 400, 200), np.linspace(0, 400, 200)))
    (box,) = place_labels(np.array([[200.0, 200.0]]), [(60.0, 12.0)], curve, Box(0, 0, 400, 400))
    assert box.covered(curve) == 0
