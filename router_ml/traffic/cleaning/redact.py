"""Redaction: personal data and secrets become typed placeholders before anything is written.

Notes
-----
Presidio's recognisers were tried (its e-mail recogniser fetches a list from the network, its phone recogniser takes 47 ms
for a text of 2 kB, and spaCy comes along), so were scrubadub (no release since 2023, 29 ms) and detect-secrets (none
since 2024; it scans files). What is used is kept and small: ``phonenumbers`` for phone numbers, ``python-stdnum`` for check
digits, and polars' regular expressions, which don't backtrack, for what its form gives away.

Names, addresses and whatever else only its meaning gives away stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from router_ml.errors import InputError, MissingExtraError
from router_ml.traffic.cleaning.numbers import CHECKED, Checked
from router_ml.traffic.cleaning.secrets import SECRETS

__all__ = ["COLUMNS", "KINDS", "REGIONS", "Redacted", "RedactedFrame", "redact", "redact_frame"]

KINDS = tuple(sorted({rule.kind for rule in (*SECRETS, *CHECKED)}))
"""What can be redacted."""

COLUMNS = ("prompt", "response")
"""The columns that are redacted."""

REGIONS = ("US",)
"""The countries whose phone numbers are found without their ``+`` and country code."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets, and how many there were of each kind."""

    text: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RedactedFrame:
    """A table without its secrets, and how many there were of each kind."""

    frame: pl.DataFrame
    counts: Mapping[str, int]


def redact(text: str, *, kinds: Collection[str] = KINDS, regions: Sequence[str] = REGIONS) -> Redacted:
    """Replace what should not be kept by placeholders such as ``<EMAIL>``.

    Parameters
    ----------
    text : str
        Any text.
    kinds : collection of str
        Which of `KINDS`.
    regions : sequence of str
        ISO 3166 codes, upper case, of the countries whose phone numbers are found in their national form too.

    Returns
    -------
    Redacted
        Redacted once more, its text stays as it is.

    Raises
    ------
    InputError
        If a kind or a region isn't known, or the text isn't Unicode.
    MissingExtraError
        If ``phonenumbers`` or ``python-stdnum`` isn't installed.

    Examples
    --------
    >>> redact("Write to anna@example.org or call +49 30 901820.").text
    'Write to <EMAIL> or call <PHONE>.'
    """
    try:
        alone = pl.Series([text], dtype=pl.String)
    except UnicodeEncodeError as exc:
        raise InputError(f"The text holds a lone surrogate, so it isn't Unicode: {exc}") from exc
    texts, counts = _redact(alone, kinds, regions)
    return Redacted(texts[0], counts)


def redact_frame(
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    columns: Collection[str] = COLUMNS,
    kinds: Collection[str] = KINDS,
    regions: Sequence[str] = REGIONS,
) -> RedactedFrame:
    """Redact the given columns of a table, as :func:`redact` does one text.

    Parameters
    ----------
    frame : DataFrame or LazyFrame
        Any table; a lazy one is collected, so give a large one in batches.
    columns : collection of str
        Text columns; those that the table lacks are passed over.
    kinds, regions
        As for :func:`redact`.

    Raises
    ------
    InputError
        If a kind or a region isn't known, or a column isn't text.
    """
    table = frame.lazy().collect()
    total: Counter[str] = Counter()
    for name in (c for c in columns if c in table.columns):
        if table[name].dtype not in (pl.String, pl.Null):
            raise InputError(f"Column {name} holds {table[name].dtype}; only columns of text can be redacted.")
        texts, counts = _redact(table[name].cast(pl.String), kinds, regions)
        table = table.with_columns(texts.alias(name))
        total.update(counts)
    return RedactedFrame(table, dict(sorted(total.items())))


def _redact(texts: pl.Series, kinds: Collection[str], regions: Sequence[str]) -> tuple[pl.Series, dict[str, int]]:
    _check_options(kinds, regions)
    total: Counter[str] = Counter()
    rows = _candidates(texts, kinds).arg_true()
    pending = texts.gather(rows)
    # A placeholder may set free what it stood beside, so a text that changed is looked at again.
    while len(rows):
        redacted = _redact_once(pending, kinds, regions, total)
        changed = (redacted != pending).arg_true()
        rows, pending = rows.gather(changed), redacted.gather(changed)
        texts = _replace_rows(texts, rows, pending)
    return texts, dict(sorted(total.items()))


def _check_options(kinds: Collection[str], regions: Sequence[str]) -> None:
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise InputError(f"Can't redact {unknown}; the kinds are {', '.join(KINDS)}.")
    try:
        from phonenumbers import SUPPORTED_REGIONS
        from stdnum import luhn  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("train", "Redaction") from exc
    unknown = sorted(set(regions) - set(SUPPORTED_REGIONS))
    if unknown:
        raise InputError(f"No phone numbers are known of {unknown}; give ISO 3166 codes such as US, GB or DE.")


def _candidates(texts: pl.Series, kinds: Collection[str]) -> pl.Series:
    """Texts in which something may have to be redacted; most have nothing, and go no further."""
    hints = [hint for rule in SECRETS if rule.kind in kinds for hint in rule.hints]
    text = pl.col(texts.name)
    looks = [text.str.contains_any(hints)] if hints else []
    looks += [text.str.contains(rule.prefilter) for rule in CHECKED if rule.kind in kinds]
    if not looks:
        return pl.repeat(False, len(texts), eager=True)
    return texts.to_frame().select(pl.any_horizontal(looks).fill_null(False)).to_series()


def _redact_once(texts: pl.Series, kinds: Collection[str], regions: Sequence[str], counts: Counter[str]) -> pl.Series:
    for secret in SECRETS:
        if secret.kind in kinds:
            found = int(texts.str.count_matches(secret.pattern).sum())
            if found:
                counts[secret.kind] += found
                texts = texts.str.replace_all(secret.pattern, secret.replacement)
    for checked in CHECKED:
        if checked.kind in kinds:
            rows = texts.str.contains(checked.prefilter).arg_true()
            redacted = [_replace_checked(text, checked, regions, counts) for text in texts.gather(rows)]
            texts = _replace_rows(texts, rows, pl.Series(redacted, dtype=pl.String))
    return texts


def _replace_checked(text: str, checked: Checked, regions: Sequence[str], counts: Counter[str]) -> str:
    pieces, end = [], 0
    for start, stop in checked.find(text, regions):
        pieces += [text[end:start], f"<{checked.kind.upper()}>"]
        end = stop
        counts[checked.kind] += 1
    return "".join([*pieces, text[end:]])


def _replace_rows(texts: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    """The texts, with the values in the given rows; both may be long, so neither passes through Python."""
    if not len(rows):
        return texts
    index = pl.arange(len(texts), eager=True, dtype=pl.UInt32)
    index = index.scatter(rows, pl.arange(len(texts), len(texts) + len(rows), eager=True, dtype=pl.UInt32))
    return pl.concat([texts, values.alias(texts.name)]).gather(index).alias(texts.name)
