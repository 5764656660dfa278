"""What a caller may ask: which policy it comes down to, what is refused, and what a query needs by its content."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_ml.core import request
from router_ml.core.artifact import Metadata, read_artifact
from router_ml.core.guarantee import Guarantee
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Policy, Reference, Rule, Shortfall, Single, Threshold, Utility
from router_ml.core.request import RequestCache, options_of, requirements, resolve
from router_ml.errors import InputError, LadderError

TABLE = (
    Guarantee("loss", 0.02, 0.05, Reference(), False, 400, rows_needed=900.0),
    Guarantee("loss", 0.05, 0.05, Threshold(0.9), True, 400),
    Guarantee("loss", 0.05, 0.1, Threshold(0.8), True, 400),
    Guarantee("loss", 0.05, 0.05, Threshold(0.7), True, 350, slice="category=law"),
    Guarantee("violation", 0.3, 0.05, Threshold(0.6), True, 400),
)
POINTS = (OperatingPoint("1pt", Shortfall(0.1)), OperatingPoint("2pt", Shortfall(0.2)))


@pytest.fixture(scope="module")
def metadata(artifact: Path) -> Metadata:
    """Of a router whose reference tier is its second."""
    found = read_artifact(artifact).metadata
    return dataclasses.replace(
        found,
        reference="mini",
        reference_cost_usd=0.25,
        points=POINTS,
        default="1pt",
        guarantees=TABLE,
        novelty_threshold=1.5,
    )


def test_nothing_asked_is_the_default_operating_point(metadata: Metadata) -> None:
    request = resolve(metadata)
    assert request.rule == Rule(Shortfall(0.1), ("nano", "mini", "full"), 1, 0.25, 1.5)
    assert (request.is_plain, request.requires) == (True, frozenset())
    assert request.allowed.all()


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({"max_loss": 0.05}, Threshold(0.9)),
        ({"max_loss": 0.05, "delta": 0.1}, Threshold(0.8)),
        ({"max_loss": 0.05, "in_slice": "category=law"}, Threshold(0.7)),
        ({"max_violation": 0.3}, Threshold(0.6)),
        ({"max_loss": 0.02}, Reference()),
        ({"policy": "reference"}, Reference()),
        ({"policy": Reference()}, Reference()),
        ({"policy": Single("full")}, Single("full")),
        ({"policy": Shortfall(0.3)}, Shortfall(0.3)),
        ({"threshold": 0.25}, Threshold(0.25)),
        ({"lam": 3}, Utility(3.0)),
        ({"at": "2pt"}, Shortfall(0.2)),
        ({"at": "1pt"}, Shortfall(0.1)),
        ({"at": None, "policy": None, "threshold": None, "lam": None, "max_loss": None}, Shortfall(0.1)),
    ],
)
def test_what_is_asked_comes_down_to_a_policy(metadata: Metadata, options: dict[str, Any], policy: Policy) -> None:
    assert resolve(metadata, **options).rule.policy == policy


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("treshold", r"^There is no option 'treshold'\. Did you mean 'threshold'\?$"),
        ("max_los", "Did you mean 'max_loss'"),
        ("knob", r"no option 'knob'\. The options are at, policy, threshold, lam, .*ignore_novelty\.$"),
    ],
)
def test_an_unknown_option_is_refused_with_what_was_meant(metadata: Metadata, name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve(metadata, **{name: 0.5})  # type: ignore[arg-type]


def test_an_unknown_option_is_refused_even_where_it_is_none(metadata: Metadata) -> None:
    with pytest.raises(InputError, match="no option 'treshold'"):
        resolve(metadata, treshold=None)  # type: ignore[call-arg]


CHOOSERS = {
    "at": "2pt",
    "policy": Shortfall(0.1),
    "threshold": 0.5,
    "lam": 0.0,
    "max_loss": 0.05,
    "max_violation": 0.3,
}


@pytest.mark.parametrize("names", list(itertools.combinations(CHOOSERS, 2)))
def test_two_options_that_each_stand_for_a_policy_are_refused(metadata: Metadata, names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"^'{names[0]}' and '{names[1]}' are given together; .* give one of them"):
        resolve(metadata, **{name: CHOOSERS[name] for name in names})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"at": "9pt"}, "no operating point '9pt'; its menu holds: 1pt, 2pt"),
        ({"at": ""}, "no operating point ''"),
        ({"at": 2}, "no operating point 2"),
        ({"at": ["2pt"]}, r"no operating point \['2pt'\]"),
        ({"at": "2pt", "delta": 0.1}, "belong to a promise"),
        ({"policy": "bar"}, "The policy is 'bar'; it needs to be a value of router_ml.core.policy"),
        ({"policy": Threshold}, "needs to be a value"),
        ({"policy": np.zeros(2)}, "needs to be a value"),
        ({"policy": Single("huge")}, "'huge'; the tiers are nano, mini, full"),
        ({"max_loss": 0.05, "in_slice": "category=physics"}, "slice 'category=physics'"),
        ({"max_loss": 0.05, "ignore_novelty": True}, "beside a promise"),
        ({"delta": 0.1}, "belong to a promise"),
        ({"in_slice": "category=law"}, "belong to a promise"),
        (
            {"max_loss": 0.001},
            r"max_loss as strict as 0\.001 with delta 0\.05.*holds: 0\.02 .*router-ml fit --max-loss",
        ),
        ({"max_loss": 0.05, "delta": 0.01}, r"delta 0\.01.*holds"),
        ({"max_violation": 0.1}, r"max_violation as strict as 0\.1.*--max-violation 0\.1"),
        ({"max_loss": 0.0}, "'max_loss' is 0"),
        ({"max_loss": math.nan}, "'max_loss' is nan"),
        ({"max_violation": 0}, "'max_violation' is 0"),
        ({"max_violation": 1}, "'max_violation' is 1"),
        ({"max_loss": 0.05, "delta": 0.0}, "'delta' is 0"),
        ({"requires": "tools"}, "'requires' is 'tools'.*tools, vision, json_schema"),
        ({"requires": ["speech"]}, "speech"),
        ({"requires": 5}, "'requires' is 5"),
        ({"output_tokens": 0}, "'output_tokens' is 0"),
        ({"output_tokens": math.inf}, "inf"),
        ({"output_tokens": "many"}, "'many'"),
        ({"max_cost_usd": -0.01}, r"-0\.01"),
        ({"max_cost_usd": math.nan}, "nan"),
        ({"max_cost_usd": "little"}, "'little'"),
        ({"forbidden": []}, "'forbidden' is .*non-empty"),
        ({"forbidden": "nano"}, "'forbidden' is 'nano'"),
    ],
)
def test_what_can_not_be_kept_is_refused(metadata: Metadata, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve(metadata, **options)


@pytest.mark.parametrize("name", ["allowed", "forbidden"])
def test_a_tier_that_does_not_exist_is_named(metadata: Metadata, name: str) -> None:
    with pytest.raises(LadderError, match=r"'huge'.*nano, mini, full"):
        resolve(metadata, **{name: {"huge"}})  # type: ignore[arg-type]


def test_forbidden_tiers_are_taken_from_the_allowed_ones(metadata: Metadata) -> None:
    request = resolve(metadata, allowed=["nano", "full"], forbidden={"gpt-4.1"})
    assert request.allowed.tolist() == [True, False, False]


def test_novelty_can_be_ignored(metadata: Metadata) -> None:
    assert resolve(metadata, ignore_novelty=True).rule.novelty_threshold == math.inf


def test_without_a_threshold_nothing_is_novel(metadata: Metadata) -> None:
    assert resolve(dataclasses.replace(metadata, novelty_threshold=None)).rule.novelty_threshold == math.inf


@pytest.mark.parametrize(
    "options",
    [
        {"allowed": ["nano", "mini", "full"]},
        {"forbidden": ["nano"]},
        {"requires": ["tools"]},
        {"output_tokens": 1},
        {"max_cost_usd": 0},
    ],
)
def test_a_request_with_a_limit_is_not_plain(metadata: Metadata, options: dict[str, Any]) -> None:
    assert not resolve(metadata, **options).is_plain


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.5},
        {"max_loss": 0.05},
        {"at": "2pt"},
        {"policy": Single("full")},
        {"requires": []},
        {"ignore_novelty": True},
    ],
)
def test_a_policy_is_no_limit(metadata: Metadata, options: dict[str, Any]) -> None:
    assert resolve(metadata, **options).is_plain


# What a query needs


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("query", "needs"),
    [
        ("a plain string about an image_url", set()),
        ([{"role": "user", "content": "Hello"}], set()),
        (user({"type": "text", "text": "Hello"}), set()),
        (user({"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x"}}), {"vision"}),
        (user({"type": "input_image", "image_url": "x"}), {"vision"}),
        (user({"type": "image", "source": {}}), {"vision"}),
        ([{"role": "assistant", "content": None, "tool_calls": [CALL]}], {"tools"}),
        ([{"role": "tool", "content": "42", "tool_call_id": "c1"}], {"tools"}),
        ([{"role": "function", "name": "f", "content": "42"}], {"tools"}),
        ([{"role": "assistant", "content": None, "function_call": {"name": "f"}}], {"tools"}),
        (user({"type": "tool_result", "content": "42"}), {"tools"}),
        ([{"role": "assistant", "content": "Hi", "tool_calls": []}], set()),
        ([*user({"type": "image_url"}), {"role": "tool", "content": "42"}], {"vision", "tools"}),
        (({"role": "tool", "content": "42"},), {"tools"}),
        ([None, 5, {"role": "user"}, {"content": ["a", None]}], set()),
        (5, set()),
    ],
)
def test_images_and_tool_calls_are_seen(query: Any, needs: set[str]) -> None:
    assert requirements(query) == needs


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"messages": [], "model": "router"}, {}),
        ({"tools": [{"type": "function"}]}, {"requires": ("tools",)}),
        ({"functions": [{"name": "f"}], "tools": []}, {"requires": ("tools",)}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"requires": ("json_schema",)}),
        ({"response_format": {"type": "json_object"}}, {}),
        ({"max_tokens": 100}, {"output_tokens": 100}),
        ({"max_tokens": 100, "max_completion_tokens": 50}, {"output_tokens": 50}),
        ({"max_tokens": None, "tools": None, "response_format": "text"}, {}),
    ],
)
def test_what_a_request_asks_of_a_tier_is_seen(body: dict[str, Any], options: dict[str, Any]) -> None:
    assert options_of(body) == options


@pytest.mark.parametrize(
    "options",
    [{"max_loss": "0.02"}, {"max_loss": 0.1, "delta": "0.05"}, {"requires": [["tools"]]}, {"requires": [{}]}],
)
def test_an_option_of_a_wrong_type_is_an_input_error(metadata: Metadata, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        resolve(metadata, **options)


def test_the_same_options_are_checked_once(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = RequestCache(metadata)
    first = requests.resolve({"threshold": 0.3})
    monkeypatch.setattr(request, "resolve", lambda *args, **options: pytest.fail("checked again"))

    assert requests.resolve({"threshold": 0.3}) is first
    assert first.rule.policy == Threshold(0.3)


def test_equal_policies_are_checked_once(metadata: Metadata) -> None:
    requests = RequestCache(metadata)
    assert requests.resolve({"policy": Threshold(0.3)}) is requests.resolve({"policy": Threshold(0.3)})


def test_policies_of_one_parameter_are_not_taken_for_one_another(metadata: Metadata) -> None:
    requests, policies = RequestCache(metadata), (Threshold(0.3), Utility(0.3), Shortfall(0.3))
    assert tuple(requests.resolve({"policy": p}).rule.policy for p in policies) == policies


def test_a_collection_that_changed_is_checked_anew(metadata: Metadata) -> None:
    requests, allowed = RequestCache(metadata), [metadata.ladder.names[0]]
    one = requests.resolve({"allowed": allowed})
    allowed[:] = metadata.ladder.names[1:2]

    assert requests.resolve({"allowed": allowed}).allowed.tolist() != one.allowed.tolist()


def test_what_is_refused_is_refused_again(metadata: Metadata) -> None:
    requests = RequestCache(metadata)
    for _ in range(2):
        with pytest.raises(InputError):
            requests.resolve({"threshold": 2.0})


def test_what_is_kept_of_requests_is_bounded(metadata: Metadata) -> None:
    requests = RequestCache(metadata)
    for i in range(3000):
        requests.resolve({"threshold": i / 3000})

    assert len(requests._known) <= 1024
