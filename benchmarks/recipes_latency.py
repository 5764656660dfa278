"""What a decision takes: ours through the artifact, the recipes' embedding and search, and LiteLLM's, all in turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.latency_comparison import Prompts, their_timer
from benchmarks.litellm_heuristic import time_calls
from benchmarks.recipes import Embeddings
from router_ml.core.router import Router
from router_ml.learning.encoders import Encoder

HEURISTIC = "LiteLLM heuristic_v2"
TOKENS = 64
"""Length of the prompts that latency is measured on; a token is taken to be four characters."""
_DISTINCT = 50
_ROUNDS, _CALLS, _SLOW_CALLS = 5, 500, 50
_EMBED, _SEARCH = "embed", "search"
_NEIGHBOURS = 40
HOW = (
    f"p50: a whole decision on prompts of {TOKENS} tokens, cut from the test prompts, one thread; the lowest of five "
    "rounds in which all take turns. Ours: Router.route on the artifact. Recipes: embedding by sentence-transformers "
    "(torch), and for those that search neighbours the search; what the others do with the embedding is left out, in "
    "their favour. heuristic_v2: its tier prediction alone."
)
"""How it is measured, for the reader of a table."""


def latency_prompts(prompts: Sequence[str]) -> list[str]:
    """Fifty texts of 64 tokens: the beginnings of the prompts, each repeated where it is shorter."""
    n_chars = 4 * TOKENS
    texts = [p.strip() for p in prompts if p.strip()]
    return [((text + " ") * (n_chars // (len(text) + 1) + 1))[:n_chars] for text in texts[:_DISTINCT]]


def measure_latency(
    ours: Mapping[str, Path],
    recipes: Sequence[str],
    heuristic_python: str | None,
    encoder: Encoder | None,
    embeddings: Embeddings,
    prompts: Sequence[str],
) -> dict[str, float]:
    """p50 in ms of a whole decision, by contestant: the lowest of five rounds, in which all take turns.

    Parameters
    ----------
    ours : mapping of name to artifact
    recipes : sequence of str
    heuristic_python : str or None
    encoder : Encoder or None
        Of the recipes.
    embeddings : array [n, d]
        Those that a recipe learned from, for the search of neighbours.
    prompts : sequence of str
    """
    from threadpoolctl import threadpool_limits

    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))
        stack.enter_context(_one_torch_thread())
        timed = {name: _timer(Router.load(path).route, prompts, _CALLS) for name, path in ours.items()}
        if encoder is not None:
            timed |= _recipe_timers(encoder, embeddings, prompts)
        if heuristic_python is not None:
            theirs = stack.enter_context(their_timer(heuristic_python, _CALLS))
            timed[HEURISTIC] = lambda: theirs(Prompts(TOKENS, list(prompts)))["p50_us"] / 1000
        rounds = [{name: time_it() for name, time_it in timed.items()} for _ in range(_ROUNDS)]
    p50 = {name: min(times[name] for times in rounds) for name in timed}
    embedding, search = p50.pop(_EMBED, math.nan), p50.pop(_SEARCH, math.nan)
    return p50 | {name: embedding + (search if "kNN" in name else 0.0) for name in recipes}


def _recipe_timers(encoder: Encoder, embeddings: Embeddings, prompts: Sequence[str]) -> dict[str, Callable[[], float]]:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(embeddings)), metric="cosine").fit(embeddings)
    query = embeddings[:1]
    return {
        _EMBED: _timer(lambda prompt: encoder.encode([prompt]), prompts, _SLOW_CALLS),
        _SEARCH: _timer(lambda _: search.kneighbors(query, return_distance=False), prompts, _SLOW_CALLS),
    }


def _timer(call: Callable[[str], object], prompts: Sequence[str], calls: int) -> Callable[[], float]:
    return lambda: time_calls(call, prompts, calls)["p50_us"] / 1000


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
