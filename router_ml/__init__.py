"""router-ml: the learned LLM router that teams train on their own logged traffic."""

from __future__ import annotations

from router_ml.core.acceptance import Acceptance
from router_ml.core.decision import Decision, Prediction
from router_ml.core.explanation import Explanation
from router_ml.core.guarantee import Guarantee
from router_ml.core.menu import Menu, OperatingPoint, Tradeoff
from router_ml.core.policy import Reference, Shortfall, Single, Threshold, Utility
from router_ml.core.request import Options
from router_ml.core.router import Router
from router_ml.errors import ArtifactError, InputError, LadderError, QueryError, RouterError
from router_ml.ladder import Ladder, Tier

__all__ = [
    "Acceptance",
    "ArtifactError",
    "Decision",
    "Explanation",
    "Guarantee",
    "InputError",
    "Ladder",
    "LadderError",
    "Menu",
    "OperatingPoint",
    "Options",
    "Prediction",
    "QueryError",
    "Reference",
    "Router",
    "RouterError",
    "Shortfall",
    "Single",
    "Threshold",
    "Tier",
    "Tradeoff",
    "Utility",
    "__version__",
]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Looked up when asked for: that takes a third of the time that importing everything else does.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("router-ml")
    except PackageNotFoundError:  # a source tree that isn't installed
        return "0+unknown"
