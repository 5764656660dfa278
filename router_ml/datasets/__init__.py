"""A seeded generator of simulated traffic, for examples and tests where no log of one's own is at hand.

Everything in it is made up: the prompts, the answers, their quality, tokens and latency. Every row says so (`source`
is "simulated"). See `simulate`; `sample_ladder` is the ladder that goes
with it.
"""

from router_ml.datasets.simulation import TIERS_PATH, sample_ladder, simulate

__all__ = ["TIERS_PATH", "sample_ladder", "simulate"]
