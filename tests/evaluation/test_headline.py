from __future__ import annotations

import numpy as np
import pytest

from router_ml.core.menu import OperatingPoint, Tradeoff
from router_ml.core.policy import Shortfall
from router_ml.evaluation import BootstrapResult, Difference, FrontierMetrics, Interval, RouterIntervals
from router_ml.evaluation.headline import advice, is_better, verdict
from router_ml.evaluation.tradeoff import Outcomes

nan = float("nan")


def reported(gap, aiq, save_100=(0.4, 0.3, 0.5), save_95=(0.6, 0.5, 0.7), plain_gap=0.5):
    gap, aiq, save_100, save_95 = (Interval(*figures) for figures in (gap, aiq, save_100, save_95))
    own = RouterIntervals(Interval(0.8, 0.7, 0.9), gap, save_100, save_95)
    zero = Interval(0.75, 0.7, 0.8)
    result = BootstrapResult(10, 0.95, {"r": own}, zero, zero, (Difference("r", "zero router", aiq, gap),))
    plain = FrontierMetrics(0.8, 0.75, 0.9, plain_gap, 0.4, 0.6, 1.0, 2.0)
    return verdict("r", plain, result, "full"), is_better("r", plain, result)


def test_a_better_router_says_how_much_it_closes_and_saves():
    assert reported((0.42, 0.3, 0.5), (0.05, 0.04, 0.06)) == (
        "The router closes 42.0 % (95 % interval 30.0 % to 50.0 %) of the gap between the zero router and the oracle, "
        "and matches the best single tier (full) at 40.0 % (95 % interval 30.0 % to 50.0 %) less cost.",
        True,
    )


@pytest.mark.parametrize(
    ("save_100", "said"),
    [
        (
            (0.4, nan, 0.5),
            "; it reaches the quality of the best single tier (full), though not in every resample. At 95 %",
        ),
        ((-0.1, nan, 0.5), "; it saves nothing at the quality of the best single tier (full). At 95 %"),
        ((nan, nan, 0.5), "; it doesn't reach the quality of the best single tier (full). At 95 %"),
    ],
)
def test_a_saving_that_is_not_sure_is_not_promised(save_100, said):
    text, better = reported((0.42, 0.3, 0.5), (0.05, 0.04, 0.06), save_100)
    assert better
    assert said in text
    assert text.endswith("of that quality it costs 60.0 % (95 % interval 50.0 % to 70.0 %) less.")


def test_a_router_that_saves_nothing_at_all_promises_nothing():
    text, _ = reported((0.42, 0.3, 0.5), (0.05, 0.04, 0.06), (nan, nan, nan), (nan, nan, nan))
    assert text.endswith("; it doesn't reach the quality of the best single tier (full).")


@pytest.mark.parametrize(
    ("gap", "aiq", "plain_gap", "end"),
    [
        ((0.02, -0.1, 0.1), (0.001, -0.01, 0.01), 0.1, "may do as well."),
        ((0.02, 0.01, 0.1), (0.001, 0.0005, 0.01), 0.0, "may do as well."),
        ((-0.3, -0.4, -0.2), (-0.03, -0.04, -0.02), -0.3, "does better."),
        ((0.0, 0.0, 0.0), (1e-16, 1e-16, 1e-16), 1e-15, "may do as well."),
    ],
)
def test_a_router_that_does_not_beat_the_zero_router_says_so_first(gap, aiq, plain_gap, end):
    text, better = reported(gap, aiq, plain_gap=plain_gap)
    assert not better
    assert text.startswith("NO BETTER than the zero router: the router closes ")
    assert "(AIQ 0.8000 against 0.7500)" in text
    assert text.endswith(end)


def test_where_the_oracle_gains_nothing_no_router_can():
    text, better = reported((nan, nan, nan), (0.0, 0.0, 0.0), plain_gap=nan)
    assert not better
    assert text.startswith("NO BETTER than the zero router: on these prompts even the oracle gains nothing over it")


# Two tiers at 1 and 4 USD; the cheap one fails half of the prompts.
OUTCOMES = Outcomes(np.array([[1.0, 1.0], [0.0, 1.0]] * 50), np.tile([1.0, 4.0], (100, 1)), 1, np.arange(100))


def advised(aiq, default=None):
    own = RouterIntervals(*[Interval(0.0, 0.0, 0.0)] * 4)
    zero = Interval(0.75, 0.7, 0.8)
    gained = Difference("r", "zero router", Interval(*aiq), Interval(0.0, 0.0, 0.0))
    result = BootstrapResult(10, 0.95, {"r": own}, zero, zero, (gained,))
    return advice("r", result, OUTCOMES, ["mini", "full"], default)


def routed(drop, mix, share=(0.3, 0.7)):
    found = Tradeoff(drop, drop, drop, 0.2, 0.1, 0.3, 3.2, 4.0, share, mix, 100)
    return OperatingPoint("1pt", Shortfall(0.1), 0.01, found)


def test_advice_compares_the_default_with_the_blind_mix_of_its_cost():
    assert advised((0.001, -0.01, 0.012), routed(0.1, 0.125))[0] == (
        "At the same cost a blind mix of single tiers loses 12.5 points, the default 10.0: these prompts can't tell them apart over the whole "
        "range of costs."
    )


def test_advice_says_which_blind_mix_loses_as_much_as_the_default():
    # A fifth of the requests to mini loses a fifth of 50 points, and saves a fifth of 75 %.
    assert advised((0.001, -0.01, 0.012), routed(0.1, 0.125))[1] == (
        "Without a router: a random 20 % of the requests to mini and the others to full saves 15 % ($3,400.00 per 1,000) for 10.0 points; "
        "always full costs $4,000.00."
    )


def test_advice_names_each_cheaper_tier_for_comparison():
    assert advised((0.001, -0.01, 0.012), routed(0.1, 0.125))[2] == (
        "For comparison: always mini saves 75 % ($1,000.00 per 1,000) for 50.0 points."
    )


def test_advice_says_how_many_more_prompts_would_tell_a_gain_of_this_size():
    # The lower end lies 11 gains below the gain: 121 times the 100 prompts bring it up to 0.
    assert advised((0.001, -0.01, 0.012), routed(0.1, 0.125))[-1] == (
        "About 12,000 more judged prompts to evaluate on might show the router to be better, if the gain seen on these is real."
    )


def test_where_nothing_was_gained_more_prompts_are_not_promised_to_help():
    assert "unlikely to show it to be better" in advised((-0.001, -0.01, 0.008), routed(0.1, 0.125))[-1]


def test_a_default_that_sends_all_to_one_tier_is_not_compared_with_a_mix():
    found = advised((0.001, -0.01, 0.012), routed(0.0, 0.0, share=(0.0, 1.0)))
    assert [text.split(":")[0] for text in found] == ["Without a router", "For comparison"]
