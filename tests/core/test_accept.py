"""Router.accept: what it asks of its caller, and what it answers."""

from __future__ import annotations

import base64
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest

from router_ml.core.acceptance import PROBES_KEY, seen_states
from router_ml.core.artifact import ACCEPTANCE_KEY, read_artifact
from router_ml.core.probes import Probes
from router_ml.core.router import Router
from router_ml.errors import ArtifactError, InputError, QueryError
from router_ml.evaluation.cascade import simulate_cascade


@pytest.fixture(scope="module")
def path(sample_traffic: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router whose tiers' answers say whether they are good."""
    from router_ml.datasets import sample_ladder
    from router_ml.workflow import FitOptions, fit

    folder = tmp_path_factory.mktemp("cascade")
    said = pl.when(pl.col("quality") >= 0.8).then(pl.lit("It is certainly so.")).otherwise(pl.lit("Sorry, I am lost?"))
    sample_traffic.with_columns(response=said).write_parquet(folder / "traffic.parquet")
    fit(
        [folder / "traffic.parquet"],
        folder / "router.onnx",
        ladder=sample_ladder(),
        options=FitOptions(learner="logistic", n_folds=2, cascade=True),
        track=False,
    )
    return folder / "router.onnx"


@pytest.fixture(scope="module")
def router(path: Path) -> Router:
    return Router.load(path)


def test_a_good_answer_is_accepted_and_a_bad_one_is_not(router: Router) -> None:
    tier = router.ladder.names[0]
    good, bad = (router.accept("Hello", a, tier, threshold=0.5) for a in ("It is certainly so.", "Sorry, I am lost?"))
    assert (good.accepted, good.next_tier, good.best_tier) == (True, None, tier)
    assert not bad.accepted
    assert bad.next_tier in router.ladder.names[1:]
    assert good.p > 0.8 > 0.3 > bad.p


def test_under_utility_nothing_is_worth_a_high_price(router: Router) -> None:
    assert router.accept("Hello", "Sorry, I am lost?", router.ladder.names[0], lam=1e9).accepted
    assert not router.accept("Hello", "Sorry, I am lost?", router.ladder.names[0], lam=0.0).accepted


def test_a_tier_that_is_not_allowed_is_not_asked(router: Router) -> None:
    first, _, third = router.ladder.names
    found = router.accept("Hello", "Sorry, I am lost?", first, lam=0.0, allowed={first, third})
    assert found.next_tier == third


def with_probes(path: Path, probes: Probes) -> Router:
    """The router, whose acceptance model has these probes."""
    artifact = read_artifact(path)
    model = onnx.load_from_string(base64.b64decode(artifact.acceptance))
    next(p for p in model.metadata_props if p.key == PROBES_KEY).value = probes.to_json()
    return Router(dataclasses.replace(artifact, acceptance=base64.b64encode(model.SerializeToString()).decode("ascii")))


def test_a_probe_goes_first_and_the_others_follow_whatever_it_answers(path: Path) -> None:
    router = with_probes(path, Probes((0.0,), (((1, 2),) * 3,)))
    first, second, third = router.ladder.names
    begun = router.triage("Hello", lam=1e9)
    assert (router.route("Hello", lam=1e9).tier, begun.tier, begun.reason) == (first, second, "probe")
    assert "asked first" in begun.explanation
    found = router.accept("Hello", "It is certainly so.", second, lam=1e9)
    assert (found.accepted, found.next_tier) == (False, third)
    assert router.accept("Hello", "It is certainly so.", first, lam=1e9).accepted
    assert router.triage("Hello", lam=1e9, forbidden={second}).tier == third
    assert router.triage("Hello", policy="reference") == router.route("Hello", policy="reference")


def test_where_nothing_is_probed_a_cascade_begins_where_the_router_does(path: Path) -> None:
    router = with_probes(path, Probes())
    for lam in (0.0, 10.0, 1e9):
        assert router.triage("Hello", lam=lam) == router.route("Hello", lam=lam)


@pytest.mark.parametrize("lam", [0.0, 20.0, 300.0, 1e4])
def test_calls_one_by_one_come_to_what_the_simulation_says(path: Path, lam: float) -> None:
    router = with_probes(path, Probes((0.0,), (((), (0, 1), (0, 1)),)))
    traffic = pl.read_parquet(path.with_name("traffic.parquet"))
    names = router.ladder.names
    said = {(p, m): (a, q) for p, m, a, q in traffic.select("prompt", "model", "response", "quality").iter_rows()}
    models = [tier.model for tier in router.ladder]
    prompts = [p for p in traffic["prompt"].unique().sort().to_list() if all((p, m) in said for m in models)][:40]
    prediction = router.predict(prompts)
    answers = [[said[p, m][0] for m in models] for p in prompts]
    _, told = router.predict_answers(prompts, answers, prediction)
    after = {state: told[:, s].astype(np.float64) for s, state in enumerate(seen_states(3))}
    quality = np.array([[said[p, m][1] for m in models] for p in prompts])
    cost = np.broadcast_to([1.0, 10.0, 100.0], quality.shape)
    options = {"lams": [lam], "caution": router.caution, "probes": router.probes}
    played = simulate_cascade(prediction.quality, prediction.cost_usd, after, quality, cost, **options)

    for i, prompt in enumerate(prompts):
        asked, tier, best = {}, router.triage(prompt, lam=lam, ignore_novelty=True).tier, ""
        while tier is not None:
            earlier, answer = dict(asked), answers[i][names.index(tier)]
            found = router.accept(prompt, answer, tier, earlier=earlier, lam=lam)
            asked[tier], tier, best = answer, found.next_tier, found.best_tier
        assert sum(cost[i, names.index(t)] for t in asked) == played.cost_usd[0, i]
        assert quality[i, names.index(best)] == played.quality[0, i]


def test_when_all_have_answered_the_best_answer_is_taken(router: Router) -> None:
    first, second, third = router.ladder.names
    found = router.accept("Hello", "Sorry?", third, earlier={first: "Sorry?", second: "It is certainly so."}, lam=0.0)
    assert (found.accepted, found.best_tier) == (True, second)


def test_a_prediction_spares_asking_again(router: Router) -> None:
    tier = router.ladder.names[0]
    assert router.accept("Hello", "So.", tier) == router.accept(
        "Hello", "So.", tier, prediction=router.predict(["Hello"])
    )


def test_any_string_is_an_answer(router: Router) -> None:
    for answer in ("", " ", "\0", "\ud800", "a" * 50_000):
        assert 0 <= router.accept("Hello", answer, router.ladder.names[0]).p <= 1


def test_threads_share_it(path: Path) -> None:
    fresh = Router.load(path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fresh.accept("Hello", "So.", fresh.ladder.names[1]), range(16)))
    assert len(set(found)) == 1


def test_routing_is_not_changed_by_it(path: Path, router: Router) -> None:
    without = Router(dataclasses.replace(read_artifact(path), acceptance=""))
    assert without.route("Hello") == router.route("Hello")
    assert not without.can_accept


def test_an_artifact_without_it_says_how_to_get_it(artifact: Path) -> None:
    router = Router.load(artifact)
    assert not router.can_accept
    with pytest.raises(InputError, match="--cascade"):
        router.accept("Hello", "So.", router.ladder.names[0])
    with pytest.raises(InputError, match="--cascade"):
        router.triage("Hello")


def test_arguments_that_can_not_be_used_are_refused(router: Router) -> None:
    first, second, _ = router.ladder.names
    with pytest.raises(ValueError, match="No tier is called"):
        router.accept("Hello", "So.", "nobody")
    with pytest.raises(InputError, match="answered twice"):
        router.accept("Hello", "So.", first, earlier={first: "No."})
    with pytest.raises(InputError, match="needs to be a string"):
        router.accept("Hello", None, first)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prediction"):
        router.accept("Hello", "So.", first, prediction=router.predict(["Hello", "Bye"]))
    with pytest.raises(QueryError):
        router.accept("", "So.", second)


def test_damage_to_it_is_found_before_anything_is_run(path: Path, tmp_path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(ACCEPTANCE_KEY.encode()) + len(ACCEPTANCE_KEY) + 100
    content[at] = ord("A") if content[at] != ord("A") else ord("B")
    (tmp_path / "damaged.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        read_artifact(tmp_path / "damaged.onnx")


def test_what_a_state_has_not_seen_changes_nothing(router: Router) -> None:
    said = router.predict(["Hello"])
    alone, all_seen = (router.predict_answers(["Hello"], [row], said)[1] for row in (["So.", None, None], ["So."] * 3))
    assert np.allclose(alone[0, 0], all_seen[0, 0], atol=1e-6)


def test_evaluation_traces_the_joint_policy(path: Path, router: Router) -> None:
    from router_ml.evaluation.report import text_report
    from router_ml.workflow import evaluate_router

    found = evaluate_router(router, [path.with_name("traffic.parquet")], n_resamples=10)
    assert found.cascade is not None
    assert found.cascade.gain_low > 0
    assert "cascade" in found.hulls
    assert found.metrics()["cascade/gap_closed"] == found.cascade.gap_closed
    assert "CASCADE" in text_report(found)
