"""MLflow's UI on the pipeline's store."""

from __future__ import annotations

import sys

from router_ml import tracking
from router_ml.errors import RouterError

if __name__ == "__main__":
    try:
        tracking.serve()
    except RouterError as exc:
        sys.exit(f"Error: {exc}")
