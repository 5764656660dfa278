"""Simulated traffic, as a frame in the columns of the traffic table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.datasets import outcomes
from router_ml.datasets.families import FAMILIES, Family
from router_ml.datasets.logging_policy import draw_tiers, logging_propensities
from router_ml.datasets.writing import in_user_style
from router_ml.errors import InputError
from router_ml.ladder import Ladder
from router_ml.traffic.schema import SCHEMA, SIMULATED

_START = datetime(2026, 10, 1, tzinfo=UTC)
_DAYS = 30
# With sessions of two to five prompts, this share of the visits puts 30 % of the prompts into sessions.
_SESSION_SHARE_OF_VISITS = 0.109
_LONGEST_SESSION = 5
# How often a prompt of a session stays with the kind of task of the one before.
_SAME_FAMILY = 0.6

TIERS_PATH = Path(__file__).with_name("tiers.yaml")
"""The bundled ``tiers.yaml`` of the simulated traffic."""


def sample_ladder() -> Ladder:
    """The three tiers that answer the simulated traffic, at the list prices of the models they are named after."""
    return Ladder.from_yaml(TIERS_PATH)


def simulate(n_prompts: int, *, random_state: int, logged: bool = False) -> pl.DataFrame:
    """Simulated traffic: made-up prompts with made-up outcomes, and labelled so in every row.

    The prompts are composed from tables of fragments, with a latent difficulty that shows in their text. Each is
    answered by the three tiers of `sample_ladder`. Nothing was measured: the figures say nothing about the
    models whose names and list prices are used.

    Parameters
    ----------
    n_prompts : int
        At least 1.
    random_state : int
        Seed, at least 0. The same arguments give the same frame.
    logged : bool, default=False
        Keep one answer per prompt, drawn by `logging_propensities`, with its probability in `propensity`. The rows
        are those of the full variant with the same seed, in which `propensity` is null.

    Returns
    -------
    polars.DataFrame
        The columns of `router_ml.traffic.schema.SCHEMA`; 3 rows per prompt, cheapest tier first, or 1 where `logged`.
        `source` is "simulated", `category` the family, `prompt_id` begins with "sim-".

    Raises
    ------
    InputError
        If `n_prompts` or `random_state` is too small.

    Notes
    -----
    The outcome model is stated in `router_ml.datasets.outcomes`. About 30 % of the prompts belong to a session
    of two to five, whose prompts tend to be of one family.

    Examples
    --------
    >>> simulate(2, random_state=0).select("model", "source").row(0)
    ('gpt-4.1-nano', 'simulated')
    """
    if n_prompts < 1:
        raise InputError(f"n_prompts is {n_prompts}, needed is at least 1: say how many prompts to simulate.")
    if random_state < 0:
        raise InputError(f"random_state is {random_state}, needed is at least 0: pass a non-negative seed.")
    visit_rng, text_rng, outcome_rng, logging_rng = np.random.default_rng(random_state).spawn(4)
    sessions, times = _draw_visits(visit_rng, n_prompts)
    families = _draw_families(visit_rng, sessions)
    difficulty = np.array([text_rng.beta(*family.difficulty) for family in families])
    prompts = [
        in_user_style(text_rng, family.compose(text_rng, float(hardness)))
        for family, hardness in zip(families, difficulty, strict=True)
    ]
    # The same seed with another number of prompts writes other prompts, so the number belongs to the id.
    prefix = f"sim-{random_state}-{n_prompts}"
    per_prompt: dict[str, Sequence[object]] = {
        "prompt_id": [f"{prefix}-{i:06d}" for i in range(n_prompts)],
        "prompt": prompts,
        "created_at": times,
        "session_id": [None if session is None else f"{prefix}-s{session:06d}" for session in sessions],
        "category": [family.name for family in families],
    }
    frame = _answer(outcome_rng, per_prompt, families, difficulty)
    return _log(logging_rng, frame, prompts) if logged else frame


def _draw_visits(rng: np.random.Generator, n_prompts: int) -> tuple[list[int | None], list[datetime]]:
    """Each prompt's session (None: it came alone) and its time; visits begin at random over the days."""
    sizes: list[int] = []
    left = n_prompts
    while left:
        is_session = rng.random() < _SESSION_SHARE_OF_VISITS
        size = min(2 + int(rng.random() * (_LONGEST_SESSION - 1)) if is_session else 1, left)
        sizes.append(size)
        left -= size
    seconds = np.sort(rng.random(len(sizes))) * _DAYS * 86_400
    sessions: list[int | None] = []
    times: list[datetime] = []
    for visit, size in enumerate(sizes):
        gaps = 20.0 + 400.0 * rng.random(size) ** 2
        sessions += [visit if size > 1 else None] * size
        times += [_START + timedelta(milliseconds=round(1e3 * s)) for s in seconds[visit] + np.cumsum(gaps) - gaps[0]]
    return sessions, times


def _draw_families(rng: np.random.Generator, sessions: Sequence[int | None]) -> list[Family]:
    """Each prompt's family; within a session it is often that of the prompt before."""
    shares = np.array([family.share for family in FAMILIES])
    fresh = rng.choice(len(FAMILIES), size=len(sessions), p=shares / shares.sum())
    stays = rng.random(len(sessions)) < _SAME_FAMILY
    families: list[Family] = []
    for i, session in enumerate(sessions):
        follows = i > 0 and session is not None and session == sessions[i - 1]
        families.append(families[-1] if follows and stays[i] else FAMILIES[int(fresh[i])])
    return families


def _answer(
    rng: np.random.Generator,
    per_prompt: Mapping[str, Sequence[object]],
    families: Sequence[Family],
    difficulty: NDArray[np.float64],
) -> pl.DataFrame:
    """The full table: every prompt's columns, once for each tier, with that tier's outcome."""
    ladder = sample_ladder()
    quality = outcomes.draw_quality(rng, families, difficulty)
    input_tokens = outcomes.count_input_tokens(rng, [str(prompt) for prompt in per_prompt["prompt"]])
    output_tokens = outcomes.draw_output_tokens(rng, families, difficulty)
    n, n_tiers = quality.shape
    return pl.DataFrame(
        {name: [value for value in column for _ in ladder] for name, column in per_prompt.items()}
        | {
            "model": [tier.model for tier in ladder] * n,
            "response": [f"[simulated answer of {tier.model}]" for tier in ladder] * n,
            "quality": quality.ravel(),
            "input_tokens": np.repeat(input_tokens, n_tiers),
            "output_tokens": output_tokens.ravel(),
            "cost_usd": outcomes.cost_of(ladder, input_tokens, output_tokens).ravel(),
            "latency_ms": outcomes.draw_latency_ms(rng, input_tokens, output_tokens).ravel(),
            "propensity": [None] * (n * n_tiers),
            "source": [SIMULATED] * (n * n_tiers),
        },
        schema_overrides=SCHEMA,
    ).select(SCHEMA.names())


def _log(rng: np.random.Generator, frame: pl.DataFrame, prompts: Sequence[str]) -> pl.DataFrame:
    """The rows of the full table that a log of one answer per prompt would hold."""
    propensities = logging_propensities(prompts)
    n, n_tiers = propensities.shape
    rows = np.arange(n) * n_tiers + draw_tiers(rng, propensities)
    logged: pl.DataFrame = frame.with_columns(propensity=pl.Series(propensities.ravel()))[rows]
    return logged
