"""How long the slow commands take, roughly: for what a user is told before they start, and for nothing else.

The figures are of one core of about 3 GHz, measured on BFCL, MMLU-Pro and the simulated sample; a busy machine takes longer. No clock
is read here, and no result depends on it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from router_ml.errors import RouterError
from router_ml.judge import JudgeConfig
from router_ml.traffic.calls import calls_seconds, spoken
from router_ml.traffic.read import scan
from router_ml.workflow.options import AUTO, FitOptions

__all__ = ["announce", "evaluate_seconds", "fit_seconds", "judge_seconds"]

logger = logging.getLogger(__name__)

_FIT_S, _SEARCH_S_PER_PROMPT, _LEARNER_S_PER_PROMPT, _CASCADE_S_PER_PROMPT = 12.0, 0.030, 0.008, 0.020
_EVALUATE_S, _EVALUATE_S_PER_PROMPT = 2.0, 0.001
_RESAMPLES = 1000
_BY_A_MODEL = "llm_"
"""How the names of graders begin that ask a model."""
_VERDICT_TOKENS = 100.0


def announce(work: str, paths: Sequence[str | Path], start_s: float, per_prompt_s: float) -> None:
    """Log how long `work` on the prompts of `paths` takes; what can't be read is left to the work, whose error says more."""
    if not logger.isEnabledFor(logging.INFO):
        return
    try:
        n = scan(paths).select(pl.col("prompt").n_unique()).collect().item()
    except (RouterError, OSError, pl.exceptions.PolarsError):
        return
    logger.info("%s %s prompts takes about %s on a free core.", work, f"{n:,}", spoken(start_s + n * per_prompt_s))


def fit_seconds(options: FitOptions) -> tuple[float, float]:
    """Seconds of a fit: to start, and for each prompt."""
    per_prompt = _SEARCH_S_PER_PROMPT if options.learner == AUTO else _LEARNER_S_PER_PROMPT
    return _FIT_S, per_prompt + (_CASCADE_S_PER_PROMPT if options.cascade else 0.0)


def evaluate_seconds(n_resamples: int = _RESAMPLES) -> tuple[float, float]:
    """Seconds of an evaluation: to start, and for each prompt."""
    return _EVALUATE_S, _EVALUATE_S_PER_PROMPT * n_resamples / _RESAMPLES


def judge_seconds(traffic: pl.DataFrame, config: JudgeConfig) -> float:
    """Seconds that the models of `config` take for the answers that have no quality, as if no verdict were cached."""
    left, seconds = traffic.filter(pl.col("response").is_not_null() & pl.col("quality").is_null()), 0.0
    for rule in config.rules:
        n = left.filter(rule.matches()).height
        left = left.filter(~rule.matches())
        if rule.grader.startswith(_BY_A_MODEL):
            n_calls, at_once = n * rule.settings.get("votes", 1), rule.settings.get("concurrency", 8)
            seconds += calls_seconds(n_calls, _VERDICT_TOKENS, at_once)
    return seconds
