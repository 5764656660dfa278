"""LiteLLM's tier predictor ``heuristic_v2`` on JSON lines: a script for an environment that holds ``litellm``.

``python -I litellm_heuristic.py < prompts.jsonl`` reads one JSON value a line, a prompt or ``{"prompt": ...}``, and answers each
with ``{"p": [...], "tier": ...}``: the probability that each of LiteLLM's four tiers succeeds, cheapest first, and the
tier that it takes at its own threshold (0 to 3). With ``--time N`` a line may also be ``{"prompts": [...]}``; the answer
is what one decision takes over N calls that go through the prompts in turn: ``{"p50_us": ..., "p99_us": ..., ...}``, or
with ``{"prompts": [...], "warm_up": [...]}`` over one call for each prompt, after one for each of the warm-up.

It needs nothing but litellm (>= 1.109), so that litellm's many requirements stay out of this project's environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import cycle, islice
from typing import Any

WARM_UP = 50


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of ascending values, interpolated linearly."""
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def time_calls(call: Callable[[str], object], prompts: Sequence[str], calls: int) -> dict[str, float]:
    """Microseconds of single calls, timed one by one after a warm-up; the prompts come round in turn.

    Parameters
    ----------
    call : callable
        The decision on one prompt.
    prompts : sequence of str
    calls : int
        Timed calls, at least 1.

    Returns
    -------
    dict
        ``p50_us`` and ``p99_us``.
    """
    before = islice(cycle(prompts), max(WARM_UP, len(prompts)))
    return time_once(call, list(islice(cycle(prompts), calls)), before)


def time_once(call: Callable[[str], object], prompts: Sequence[str], warm_up: Iterable[str]) -> dict[str, float]:
    """The same over one call for each prompt, after one for each of the warm-up."""
    for prompt in warm_up:
        call(prompt)
    times = []
    for prompt in prompts:
        start = time.perf_counter_ns()
        call(prompt)
        times.append((time.perf_counter_ns() - start) / 1e3)
    times.sort()
    return {"p50_us": quantile(times, 0.5), "p99_us": quantile(times, 0.99)}


def load_predictor() -> Callable[[str], Any]:
    """The decision of ``classifier_type: heuristic_v2`` on one prompt, with the bundled UltraFeedback statistics.

    It is what ``ComplexityRouter._classify_with_heuristic_v2`` calls: the request's type by regular expressions, then
    the success rate of each tier in the prompt's cohort, shrunk towards the type's and the overall one.
    """
    # Else importing litellm fetches its price list.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # stdout is for the answers alone.
    with contextlib.redirect_stdout(sys.stderr):
        from litellm.router_strategy.adaptive_router.classifier import classify_prompt
        from litellm.router_strategy.complexity_router.tier_predictor import TierSuccessPredictor, resolve_tier_artifact
    predictor = TierSuccessPredictor(resolve_tier_artifact("ultrafeedback"))
    return lambda prompt: predictor.predict(prompt, classify_prompt(prompt))


def main() -> None:
    """Answer each line of stdin, at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, metavar="N", help="answer with the latency over N calls")
    options = parser.parse_args()
    if options.time is not None and options.time < 1:
        parser.error(f"--time is {options.time}; needed at least 1 call.")
    predict = load_predictor()
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, str):
            request = {"prompt": request}
        if options.time is None:
            prediction = predict(request["prompt"])
            p = [probability for _, probability in sorted(prediction.probabilities.items())]
            answer: dict[str, Any] = {"p": p, "tier": prediction.required_tier - 1}
        else:
            prompts = request.get("prompts") or [request["prompt"]]
            if "warm_up" in request:
                times = time_once(predict, prompts, request["warm_up"])
            else:
                times = time_calls(predict, prompts, options.time)
            answer = {**times, "litellm": version("litellm")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
