"""Replay: the missing tiers' answers to chosen prompts, bought once each, within a budget."""

from __future__ import annotations

from router_ml.replay.endpoints import Endpoint, read_endpoints
from router_ml.replay.estimate import Estimate, TierEstimate
from router_ml.replay.replay import ReplayOptions, ReplayReport, estimate_replay, replay
from router_ml.replay.run import Retries

__all__ = [
    "Endpoint",
    "Estimate",
    "ReplayOptions",
    "ReplayReport",
    "Retries",
    "TierEstimate",
    "estimate_replay",
    "read_endpoints",
    "replay",
]
