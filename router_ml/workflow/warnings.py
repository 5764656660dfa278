"""What to say before any figure: that the router has seen this traffic, or that nobody's model answered it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from router_ml.core.router import Router
from router_ml.traffic.schema import SIMULATED
from router_ml.workflow.data import hash_files

__all__ = ["seen_in_training", "simulated"]

_MOST = 0.5
_INSTEAD = " Give traffic that it hasn't seen."


def seen_in_training(router: Router, paths: Sequence[str | Path], prompt_ids: ArrayLike) -> tuple[str, ...]:
    """Whether the router was fitted on these files, or on most of these prompts; empty where neither is known.

    The files are known by their hash; the prompts by their ids, where the artifact holds some (``fit --neighbours``).
    """
    provenance = router.metadata.provenance
    if provenance.get("data_sha256") == hash_files(paths):
        return ("THIS IS THE TRAFFIC THAT THE ROUTER WAS FITTED ON, so that the figures flatter it." + _INSTEAD,)
    kept = router.training_prompt_ids()
    if not len(kept):
        return ()
    # The artifact may hold a sample only.
    share = float(
        np.isin(np.asarray(prompt_ids, dtype=np.str_), kept).mean()
        * max(provenance.get("n_prompts", 0) / len(kept), 1.0)
    )
    if share <= _MOST:
        return ()
    return (
        f"ABOUT {100 * min(share, 1.0):.0f} % OF THESE PROMPTS ARE AMONG THOSE THAT THE ROUTER WAS FITTED ON, so that the figures flatter it."
        + _INSTEAD,
    )


def simulated(source: ArrayLike) -> tuple[str, ...]:
    """Whether the traffic, or a part of it, comes from the bundled generator; empty where none does."""
    made_up = np.asarray(source, dtype=np.str_) == SIMULATED
    n = int(made_up.sum())
    if not n:
        return ()
    part = "" if n == len(made_up) else f"{n:,} of {len(made_up):,} prompts: "
    return (f"SIMULATED TRAFFIC: {part}no real model answered, so that the figures say nothing of any.",)
