"""router-ml: the learned LLM router that teams train on their own logged traffic."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from router_ml.core.acceptance import Acceptance
from router_ml.core.decision import Decision, Prediction
from router_ml.core.router import Router
from router_ml.errors import RouterError
from router_ml.ladder import Ladder, Tier

__all__ = ["Acceptance", "Decision", "Ladder", "Prediction", "Router", "RouterError", "Tier", "__version__"]

try:
    __version__ = version("router-ml")
except PackageNotFoundError:  # a source tree that isn't installed
    __version__ = "0+unknown"
