"""What the simulated tiers make of a prompt: quality, tokens, cost and latency, all of them made up.

Quality follows an item-response model. A tier's margin on a prompt is

    SLOPE * (ability[family, tier] - difficulty) + shared noise of the prompt + noise of the cell

A checkable answer is right where the margin is positive; another one is graded in quarters by the margin. The shared
noise makes tiers fail together, as they do on a prompt that is ambiguous; the noise of the cell lets a cheap tier
succeed where a dear one fails. Neither shows in the text, so no router can foresee them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from router_ml.datasets.families import Family
from router_ml.ladder import Ladder

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

# Chosen so that the tiers' mean qualities are near .54, .74 and .86, and the dearest tier fails (quality < .5) where a
# cheaper one succeeds on 3 to 4 % of the prompts. Ridge regressions on text embeddings of 3,750 prompts then close .35
# to .40 of the gap between the zero router and the oracle; one that knew family and difficulty would close .60.
SLOPE = 10.0
SHARED_NOISE = 0.5
CELL_NOISE = 1.1
# A checkable answer with a margin this close to zero is half right: a test of two passes, a field of two is found.
_HALF_RIGHT = 0.08

# Per tier, cheapest first: how much it writes relative to mini, its time to the first token, its time per token.
_VERBOSITY = np.array([0.92, 1.0, 1.12])
_FIRST_TOKEN_MS = np.array([260.0, 340.0, 480.0])
_MS_PER_INPUT_TOKEN = np.array([0.02, 0.04, 0.08])
_MS_PER_OUTPUT_TOKEN = np.array([6.0, 10.0, 15.0])


def draw_quality(rng: np.random.Generator, families: Sequence[Family], difficulty: Floats) -> Floats:
    """Quality of each tier's answer to each prompt.

    Parameters
    ----------
    rng : numpy.random.Generator
    families : sequence of Family, length n
        Each prompt's family.
    difficulty : ndarray of shape (n,)
        In [0, 1].

    Returns
    -------
    ndarray of shape (n, T)
        Multiples of 0.25 in [0, 1]; for checkable families 0, 0.5 (seldom) or 1.
    """
    ability = np.array([family.ability for family in families])
    checkable = np.array([family.checkable for family in families])[:, None]
    shared = rng.normal(0.0, SHARED_NOISE, size=(len(families), 1))
    margin = SLOPE * (ability - difficulty[:, None]) + shared + rng.normal(0.0, CELL_NOISE, size=ability.shape)
    right = np.where(np.abs(margin) < _HALF_RIGHT, 0.5, (margin > 0.0).astype(np.float64))
    graded = np.clip(np.round(2.0 + margin), 0.0, 4.0) / 4.0
    return np.where(checkable, right, graded)


def count_input_tokens(rng: np.random.Generator, prompts: Sequence[str]) -> Ints:
    """Tokens of each prompt, shape (n,): about one per four characters, and the same for every tier."""
    characters = np.array([len(prompt) for prompt in prompts], dtype=np.float64)
    return _whole(characters / 4.0 * rng.lognormal(0.0, 0.06, size=len(prompts)))


def draw_output_tokens(rng: np.random.Generator, families: Sequence[Family], difficulty: Floats) -> Ints:
    """Tokens of each tier's answer, shape (n, T): more for harder prompts and for dearer tiers."""
    median = np.array([family.answer_tokens for family in families]) * (0.4 + 1.2 * difficulty)
    tokens = median[:, None] * _VERBOSITY * rng.lognormal(0.0, 0.35, size=(len(families), len(_VERBOSITY)))
    return _whole(tokens)


def cost_of(ladder: Ladder, input_tokens: Ints, output_tokens: Ints) -> Floats:
    """Cost in USD of each tier's answer, shape (n, T), rounded to 1e-9."""
    cost: Floats = np.round(ladder.cost_usd(input_tokens[:, None], output_tokens), 9)
    return cost


def draw_latency_ms(rng: np.random.Generator, input_tokens: Ints, output_tokens: Ints) -> Floats:
    """Time to the last token of each tier's answer in milliseconds, shape (n, T), rounded to 0.1."""
    expected = _FIRST_TOKEN_MS + _MS_PER_INPUT_TOKEN * input_tokens[:, None] + _MS_PER_OUTPUT_TOKEN * output_tokens
    latency_ms: Floats = np.round(expected * rng.lognormal(0.0, 0.2, size=output_tokens.shape), 1)
    return latency_ms


def _whole(tokens: Floats) -> Ints:
    """Whole numbers of tokens, at least one each."""
    whole: Ints = np.maximum(np.round(tokens), 1.0).astype(np.int64)
    return whole
