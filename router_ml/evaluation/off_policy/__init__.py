"""What a policy would have earned, from the log of another: estimators, whether the log can answer, what to explore."""

from __future__ import annotations

from router_ml.evaluation.off_policy.diagnostics import Overlap, check_overlap, require_overlap
from router_ml.evaluation.off_policy.direct import direct
from router_ml.evaluation.off_policy.doubly_robust import Influence, doubly_robust, influence
from router_ml.evaluation.off_policy.intervals import Estimate
from router_ml.evaluation.off_policy.ips import ips
from router_ml.evaluation.off_policy.logged import Logged
from router_ml.evaluation.off_policy.paired import paired_difference
from router_ml.evaluation.off_policy.plan import ExplorationPlan, plan_exploration
from router_ml.evaluation.off_policy.propensity import estimate_propensities
from router_ml.evaluation.off_policy.pseudo import pseudo_outcomes
from router_ml.evaluation.off_policy.snips import snips

__all__ = [
    "Estimate",
    "ExplorationPlan",
    "Influence",
    "Logged",
    "Overlap",
    "check_overlap",
    "direct",
    "doubly_robust",
    "estimate_propensities",
    "influence",
    "ips",
    "paired_difference",
    "plan_exploration",
    "pseudo_outcomes",
    "require_overlap",
    "snips",
]
