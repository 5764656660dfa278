"""Endpoints: read from YAML, checked, and never a key in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_ml.errors import InputError, LadderError
from router_ml.ladder import Ladder
from router_ml.replay.endpoints import Endpoint, read_endpoints

SECRET = "sk-proj-0123456789abcdef"


def read(tmp_path: Path, ladder: Ladder, text: str) -> tuple[Endpoint, ...]:
    path = tmp_path / "endpoints.yaml"
    path.write_text(text)
    return read_endpoints(path, ladder)


def test_tiers_come_in_ladder_order_over_the_defaults(tmp_path: Path, ladder: Ladder) -> None:
    text = "defaults: {max_tokens: 9, temperature: 0}\ntiers:\n  full-model: {concurrency: 3}\n  mini: {max_tokens: 5}"

    assert read(tmp_path, ladder, text) == (
        Endpoint(max_tokens=5, temperature=0),
        Endpoint(max_tokens=9, temperature=0, concurrency=3),
    )


def test_an_empty_file_is_all_defaults(tmp_path: Path, ladder: Ladder) -> None:
    assert read(tmp_path, ladder, "") == (Endpoint(), Endpoint())


def test_the_default_key_isnt_sent_to_another_host(tmp_path: Path, ladder: Ladder) -> None:
    text = "defaults: {api_key_env: OPENAI_API_KEY}\ntiers: {mini: {base_url: 'http://other/v1'}}"

    assert read(tmp_path, ladder, text)[0].api_key_env is None


def test_a_tier_that_isnt_on_the_ladder_is_named(tmp_path: Path, ladder: Ladder) -> None:
    with pytest.raises(LadderError, match="'huge'"):
        read(tmp_path, ladder, "tiers: {huge: {}}")


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "tiers: [1]",
        "defaults: 3",
        "extra: {}",
        "tiers: {mini: 3}",
        "defaults: {max_tokens: 0}",
        "defaults: {max_tokens: true}",
        "defaults: {max_tokens_field: tokens}",
        "defaults: {concurrency: 1.5}",
        "defaults: {timeout_s: .nan}",
        "defaults: {rpm: -1}",
        "defaults: {model: ''}",
        "defaults: {idempotent: 1}",
        "defaults: {base_url: localhost}",
        "defaults: {base_url: 'ftp://x/v1'}",
        "defaults: {extra_body: {n: 5}}",
        "defaults: {extra_body: {max_tokens: 5}}",
        "defaults: {extra_body: {seed: .nan}}",
        "defaults: {extra_body: [1]}",
        "{{",
        "tiers: &a [*a]",
    ],
)
def test_bad_files_are_refused(tmp_path: Path, ladder: Ladder, text: str) -> None:
    with pytest.raises(InputError):
        read(tmp_path, ladder, text)


@pytest.mark.parametrize(
    "text",
    [
        f"defaults: {{api_key: {SECRET}}}",
        f"defaults: {{api_key_env: {SECRET}}}",
        f"defaults: {{base_url: 'https://me:{SECRET}@host/v1'}}",
        f"defaults: {{base_url: 'https://host/v1?key={SECRET}'}}",
        f"defaults: {{api_key_env: {SECRET}",
    ],
)
def test_a_key_in_the_wrong_place_isnt_quoted(tmp_path: Path, ladder: Ladder, text: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, ladder, text)

    chain = [caught.value, caught.value.__cause__]
    assert all(SECRET not in str(e) for e in chain)


def test_the_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "abc\n")

    assert Endpoint(api_key_env="MY_KEY").api_key() == "abc"


def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        Endpoint().api_key()


@pytest.mark.parametrize("key", ["two words", "schlüssel"])
def test_what_cant_be_a_key_isnt_sent_or_quoted(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", key)

    with pytest.raises(InputError, match="MY_KEY") as caught:
        Endpoint(api_key_env="MY_KEY").api_key()

    assert key not in str(caught.value)


def test_a_server_of_ones_own_needs_no_key() -> None:
    assert Endpoint(base_url="http://localhost:1/v1").api_key() == "none"


def test_openai_and_others_are_told_the_limit_in_their_own_words() -> None:
    assert "max_completion_tokens" in Endpoint().body("m", [])
    assert "max_tokens" in Endpoint(base_url="http://localhost/v1").body("m", [])


def test_the_fingerprint_is_of_what_answers_depend_on() -> None:
    one = Endpoint().fingerprint("m")

    assert one == Endpoint(base_url="http://x/v1", concurrency=1, timeout_s=1).fingerprint("m")
    assert one != Endpoint(temperature=0).fingerprint("m")
    assert one != Endpoint(extra_body={"seed": 1}).fingerprint("m")
