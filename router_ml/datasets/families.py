"""The families of simulated prompts: how often each comes, how hard it is, and how able each tier is at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from router_ml.datasets import prompts_coding as coding
from router_ml.datasets import prompts_data as data
from router_ml.datasets import prompts_knowledge as knowledge
from router_ml.datasets import prompts_reading as reading
from router_ml.datasets import prompts_reasoning as reasoning
from router_ml.datasets.writing import Request


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of prompt. All of its numbers are made up.

    Parameters
    ----------
    name : str
        The `category` column.
    share : float
        How often the family comes, relative to the others.
    checkable : bool
        Whether an answer is right or wrong; graded in quarters otherwise.
    difficulty : tuple of float
        The two parameters of the beta distribution that the latent difficulty is drawn from.
    ability : tuple of float
        Per tier, cheapest first: the difficulty at which it succeeds half of the time.
    answer_tokens : int
        Median length of the mini tier's answer at difficulty 0.5.
    compose : callable
        Writes a request of a given difficulty.
    """

    name: str
    share: float
    checkable: bool
    difficulty: tuple[float, float]
    ability: tuple[float, float, float]
    answer_tokens: int
    compose: Callable[[np.random.Generator, float], Request]


# The dearer tier is better on average, not everywhere: at conversion and brainstorming mini beats full, at rewriting,
# translation and regular expressions it is about as good, and at classification and everyday requests nano is as good as either.
# Without such families a router could learn nothing but how hard a prompt is.
FAMILIES: tuple[Family, ...] = (
    Family("everyday", 2.4, True, (1.2, 6.0), (0.9, 0.93, 0.95), 15, knowledge.everyday),
    Family("summary", 1.2, False, (2.0, 2.0), (0.58, 0.73, 0.79), 170, reading.summary),
    Family("document_qa", 1.2, False, (2.0, 2.0), (0.43, 0.56, 0.80), 120, reading.document_qa),
    Family("rewriting", 1.0, False, (1.8, 2.2), (0.73, 0.85, 0.77), 110, reading.rewriting),
    Family("translation", 0.9, False, (1.8, 2.2), (0.53, 0.81, 0.75), 100, reading.translation),
    Family("extraction", 1.1, True, (1.8, 2.2), (0.61, 0.79, 0.83), 180, data.extraction),
    Family("classification", 1.2, True, (1.6, 2.4), (0.85, 0.83, 0.81), 12, data.classification),
    Family("conversion", 0.8, True, (1.8, 2.2), (0.51, 0.87, 0.69), 260, data.conversion),
    Family("fact", 1.3, True, (1.6, 2.4), (0.67, 0.69, 0.86), 40, knowledge.fact),
    Family("explanation", 0.9, False, (1.8, 2.2), (0.69, 0.75, 0.81), 320, knowledge.explanation),
    Family("comparison", 0.9, False, (1.8, 2.2), (0.63, 0.71, 0.81), 340, knowledge.comparison),
    Family("brainstorm", 0.8, False, (1.8, 2.2), (0.77, 0.87, 0.75), 280, knowledge.brainstorm),
    Family("arithmetic", 1.0, True, (2.0, 2.0), (0.29, 0.65, 0.77), 150, reasoning.arithmetic),
    Family("logic", 0.8, True, (2.2, 1.8), (0.11, 0.32, 0.75), 260, reasoning.logic),
    Family("proof", 0.6, True, (2.2, 1.8), (0.09, 0.28, 0.69), 480, reasoning.proof),
    Family("planning", 0.8, False, (2.0, 2.0), (0.47, 0.67, 0.76), 460, reasoning.planning),
    Family("code", 1.3, True, (2.0, 2.0), (0.34, 0.57, 0.82), 340, coding.code),
    Family("debugging", 1.0, True, (2.0, 2.0), (0.24, 0.44, 0.80), 240, coding.debugging),
    Family("sql", 0.8, True, (1.8, 2.2), (0.44, 0.75, 0.79), 130, coding.sql),
    Family("regex", 0.7, True, (1.8, 2.2), (0.40, 0.73, 0.75), 90, coding.regex),
)
