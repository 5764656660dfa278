from __future__ import annotations

import numpy as np
import pytest

from router_ml.evaluation.off_policy import Logged, direct


def test_by_hand():
    logged = Logged([0, 1], [1.0, 0.0], [0.5, 0.5])
    found = direct(logged, [[0.25, 0.75], [1.0, 0.0]], [[0.2, 0.6], [0.3, 0.9]])
    assert found.value == pytest.approx((0.5 + 0.3) / 2)
    assert found.standard_error == pytest.approx(np.std([0.5, 0.3], ddof=1) / np.sqrt(2))


def test_a_wrong_model_is_not_noticed(draw_log, truth):
    world = draw_log(np.random.default_rng(0), 5000)
    assert direct(world.logged, world.pi, world.right).value == pytest.approx(truth, abs=0.01)
    assert (
        not direct(world.logged, world.pi, world.wrong).low <= truth <= direct(world.logged, world.pi, world.wrong).high
    )
