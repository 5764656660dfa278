"""A ladder is read as it was written, counts costs by its prices, and refuses what contradicts itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_ml.errors import LadderError
from router_ml.ladder import Ladder, Tier

SMALL = Tier("small", "model-s", 1.0, 2.0)
LARGE = Tier("large", "model-l", 10.0, 30.0, request_usd=0.5, context_window=8192, supports=("tools", "vision"))
LADDER = Ladder((SMALL, LARGE))


@pytest.fixture
def tiers_yaml(tmp_path: Path) -> Path:
    return tmp_path / "tiers.yaml"


def test_yaml_gives_back_what_was_written(tiers_yaml: Path) -> None:
    LADDER.to_yaml(tiers_yaml)
    assert Ladder.from_yaml(tiers_yaml) == LADDER


def test_plain_values_give_back_the_ladder() -> None:
    assert Ladder.from_dicts(LADDER.to_dicts()) == LADDER


def test_a_tier_without_a_name_is_called_as_its_model() -> None:
    assert Tier.from_dict({"model": "gpt"}).name == "gpt"


def test_a_null_stands_for_the_default() -> None:
    assert Tier.from_dict({"model": "gpt", "request_usd": None}).request_usd == 0.0


def test_a_ladder_is_a_sequence_of_its_tiers() -> None:
    assert (len(LADDER), LADDER[1], list(LADDER)) == (2, LARGE, [SMALL, LARGE])


@pytest.mark.parametrize("name", ["large", "model-l"])
def test_a_tier_is_found_by_name_or_model(name: str) -> None:
    assert LADDER.index(name) == 1


def test_a_tier_that_is_not_there_is_refused_naming_those_that_are() -> None:
    with pytest.raises(LadderError, match=r"'huge'.*small, large"):
        LADDER.index("huge")


def test_cost_is_tokens_times_prices_and_the_call() -> None:
    # small: (1000 x $1 + 500 x $2) / 1e6; large: (1000 x $10 + 500 x $30) / 1e6 + $0.5
    np.testing.assert_allclose(LADDER.cost_usd([[1000.0]], [[500.0]]), [[0.002, 0.525]], rtol=1e-12)


def test_cost_takes_tokens_of_each_tier() -> None:
    np.testing.assert_allclose(LADDER.cost_usd([[1e6, 0.0]], [[0.0, 1e6]]), [[1.0, 30.5]], rtol=1e-12)


def test_a_price_not_known_gives_a_cost_not_known() -> None:
    assert np.isnan(Ladder((Tier("a", "a"),)).cost_usd([[1.0]], [[1.0]])).all()


def test_a_tier_has_both_prices_or_none() -> None:
    assert (SMALL.priced, Tier("a", "a").priced) == (True, False)
    with pytest.raises(LadderError, match="give both, or neither"):
        Tier("a", "a", 1.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ""}, "name is ''"),
        ({"model": 4}, "model is 4"),
        ({"input_usd_per_mtok": -1.0}, "input_usd_per_mtok is -1.0"),
        ({"output_usd_per_mtok": math.nan}, "output_usd_per_mtok is nan"),
        ({"output_usd_per_mtok": math.inf}, "inf"),
        ({"input_usd_per_mtok": 10**400}, "input_usd_per_mtok"),
        ({"input_usd_per_mtok": "1.0"}, "'1.0'"),
        ({"input_usd_per_mtok": True}, "True"),
        ({"request_usd": -0.1}, "request_usd is -0.1"),
        ({"request_usd": None}, "request_usd is None"),
        ({"context_window": 0}, "context_window is 0"),
        ({"context_window": 1e6}, "context_window is 1000000.0"),
        ({"supports": ("telepathy",)}, "telepathy.*tools.*vision.*json_schema"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field(change: dict[str, Any], says: str) -> None:
    with pytest.raises(LadderError, match=says):
        Tier(**{"name": "a", "model": "m", **change})


@pytest.mark.parametrize(("name", "model", "field"), [("small", "other", "name"), ("other", "model-s", "model")])
def test_two_tiers_of_one_name_or_model_are_refused(name: str, model: str, field: str) -> None:
    with pytest.raises(LadderError, match=f"same {field}"):
        Ladder((SMALL, Tier(name, model)))


def test_a_ladder_without_tiers_is_refused() -> None:
    with pytest.raises(LadderError, match="at least one"):
        Ladder(())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tiers: [", "can't be read"),
        ("", "key 'tiers'"),
        ("tiers: 3", "key 'tiers'"),
        ("- model: a", "key 'tiers'"),
        ("tiers: []", "at least one"),
        ("tiers: [gpt]", "'gpt'.*mapping"),
        ("tiers: [{name: a}]", "names no model"),
        ("tiers: [{model: a, price: 3}]", r"\['price'\]"),
        ("tiers: [{model: a}]\nbar: 0.5", r"\['bar'\]"),
        ("tiers: [{model: a, supports: tools}]", "needs to be a list"),
        ("tiers: [{model: a}, {model: a}]", "same name: 'a'"),
        ("tiers: [{model: a, input_usd_per_mtok: .nan}]", "nan"),
        ("tiers: [{model: a, input_usd_per_mtok: cheap}]", "'cheap'"),
        ("tiers: [{model: 4.1}]", "4.1.*string"),
        ("tiers: [{model: a, input_usd_per_mtok: 2026-13-45}]", "can't be read"),
        ("[" * 2_000, "can't be read"),
        ("a: !!python/object/apply:os.getcwd []", "can't be read"),
    ],
)
def test_a_bad_tiers_yaml_is_refused_naming_the_file(tiers_yaml: Path, text: str, says: str) -> None:
    tiers_yaml.write_text(text, encoding="utf-8")
    with pytest.raises(LadderError, match=f"(?s)tiers.yaml.*{says}"):
        Ladder.from_yaml(tiers_yaml)


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", b"tiers: \x00"])
def test_a_file_that_is_no_text_is_refused(tiers_yaml: Path, content: bytes) -> None:
    tiers_yaml.write_bytes(content)
    with pytest.raises(LadderError, match="can't be read"):
        Ladder.from_yaml(tiers_yaml)


def test_the_error_of_a_bad_yaml_is_one_line(tiers_yaml: Path) -> None:
    tiers_yaml.write_text("tiers: [\n  {model: a\n", encoding="utf-8")
    with pytest.raises(LadderError) as caught:
        Ladder.from_yaml(tiers_yaml)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tiers_yaml: Path) -> None:
    with pytest.raises(LadderError, match="can't be read"):
        Ladder.from_yaml(tiers_yaml)
