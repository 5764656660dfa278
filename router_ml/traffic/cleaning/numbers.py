"""What redaction looks for by its form and then checks: payment cards, IBANs, phone numbers, assigned secrets.

Each function gives the spans of one kind in one text, in order and disjoint. The patterns are Python's, and linear: the
parts of a repetition begin with different characters, and a failed match has seen a bounded number of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

__all__ = ["CHECKED", "Checked", "find_cards", "find_ibans", "find_phones", "find_secrets"]

Span = tuple[int, int]

_SEPARATORS = " ().-/"

_CARD = re.compile(
    r"(?<![\w.])(?:[2-6][0-9]{13,18}"
    r"|[2-6][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?"
    r"|3[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})(?!\w|\.[0-9])",
    re.ASCII,
)
# Prefix and length of the issuers (ISO/IEC 7812; Visa, Mastercard, American Express, Discover, JCB, Diners Club,
# UnionPay). Luhn alone accepts one number of ten, so one of ten time stamps and ids too.
_ISSUER = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|2720\d{12}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|35(?:2[89]|[3-8]\d)\d{12,15}|3(?:0[0-5]|[689]\d)\d{11}|62\d{14,17}",
    re.ASCII,
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)", re.ASCII)
# With + any number of 7 to 15 digits (ITU-T E.164); without, two groups or more with single separators between them, for
# sums (3 + 4.5 - 1), decimals and bare ids look much like numbers too.
_INTERNATIONAL = re.compile(r"(?<![\w)])\+[0-9](?:[ ().\-/]{0,2}[0-9]){6,14}(?!\w|[.,][0-9])", re.ASCII)
_NATIONAL = re.compile(
    r"(?<![\w.,+])(?:\([0-9]{2,5}\)[ \-]?|[0-9]{1,5}[ .\-/])[0-9]{2,8}(?:[ .\-/][0-9]{2,5}){0,4}(?!\w|[.,:][0-9])",
    re.ASCII,
)
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+", re.ASCII)
_ASSIGNED = re.compile(
    r"(?:(?:api|access|secret|auth|private|account|subscription)[_-]?key|secret|token|passw(?:or)?d|pwd)"
    r"[\"']?\s{0,3}(?:=>|:=|=|:)\s{0,3}[\"']?([a-z0-9_\-+/.~]{16,}={0,2})"
    r"|\bbearer\s{1,3}([a-z0-9_\-+/.~]{16,}={0,2})",
    re.ASCII | re.IGNORECASE,
)


def find_cards(text: str, _regions: Sequence[str] = ()) -> list[Span]:
    """Payment card numbers: an issuer's prefix and length, and the Luhn check digit; in one block or in its groups."""
    from stdnum import luhn

    def length(match: re.Match[str]) -> int:
        digits = re.sub("[ -]", "", match[0])
        return len(match[0]) if _ISSUER.fullmatch(digits) and luhn.is_valid(digits) else 0

    return _spans(_CARD, text, length)


def find_ibans(text: str, _regions: Sequence[str] = ()) -> list[Span]:
    """IBANs: a country's length and structure, and the check digits; in one block or in groups of four."""
    from stdnum import iban

    def length(match: re.Match[str]) -> int:
        # The words that follow may look like one more group.
        return _longest(match[0], lambda number: bool(iban.is_valid(number, check_country=False)))

    return _spans(_IBAN, text, length)


def find_phones(text: str, regions: Sequence[str] = ()) -> list[Span]:
    """Phone numbers: with ``+`` any that is possible; else those of the regions, if valid and grouped as it is done there.

    Parameters
    ----------
    text : str
        Any text.
    regions : sequence of str
        ISO 3166 codes of the countries whose numbers are looked for in their national form.
    """
    import phonenumbers

    def possible(number: str) -> bool:
        try:
            return bool(phonenumbers.is_possible_number(phonenumbers.parse(number, None)))
        except phonenumbers.NumberParseException:
            return False

    lengths = {region: _national_lengths(region) for region in regions}
    strict = phonenumbers.Leniency.STRICT_GROUPING

    def national(number: str) -> bool:
        n_digits = sum(map(str.isdigit, number))
        return not _DECIMAL.fullmatch(number) and any(
            n_digits in lengths[region] and phonenumbers.PhoneNumberMatcher(number, region, leniency=strict).has_next()
            for region in regions
        )

    found = _spans(_INTERNATIONAL, text, lambda match: _longest(match[0], possible))
    taken = "".join(_outside(text, found))
    return sorted(found + _spans(_NATIONAL, taken, lambda match: _longest(match[0], national)))


@cache
def _national_lengths(region: str) -> frozenset[int]:
    """How many digits a region's numbers may have, with and without the prefix for calls within it."""
    from phonenumbers import PhoneMetadata

    metadata = PhoneMetadata.metadata_for_region(region)
    if metadata is None or metadata.general_desc is None:
        return frozenset()
    lengths = metadata.general_desc.possible_length
    return frozenset(lengths) | {n + len(metadata.national_prefix or "") for n in lengths}


def find_secrets(text: str, _regions: Sequence[str] = ()) -> list[Span]:
    """Values of 16 characters and more with letters and digits, after a name such as ``api_key=`` or after ``Bearer``."""
    spans = [match.span(1) if match[1] else match.span(2) for match in _ASSIGNED.finditer(text)]
    return [
        (start, end)
        for start, end in spans
        if any(c.isdigit() for c in text[start:end]) and any(c.isalpha() for c in text[start:end])
    ]


def _spans(pattern: re.Pattern[str], text: str, length: Callable[[re.Match[str]], int]) -> list[Span]:
    """Where the pattern matches and `length` accepts so many characters of it; a refused match may hide a later one."""
    found: list[Span] = []
    match = pattern.search(text)
    while match:
        n = length(match)
        if n:
            found.append((match.start(), match.start() + n))
        match = pattern.search(text, match.start() + max(n, 1))
    return found


def _longest(number: str, accepted: Callable[[str], bool]) -> int:
    """Length of the longest beginning, cut at a separator, that is accepted; another number may follow this one."""
    ends = [len(number), *(i for i in range(len(number) - 1, 6, -1) if number[i] in _SEPARATORS)]
    return next((end for end in ends if number[end - 1] not in _SEPARATORS and accepted(number[:end])), 0)


def _outside(text: str, spans: list[Span]) -> Iterator[str]:
    """The text with the spans blanked out, by a character that is part of no number."""
    end = 0
    for start, stop in spans:
        yield text[end:start] + "\0" * (stop - start)
        end = stop
    yield text[end:]


class Checked(NamedTuple):
    """A kind that is checked in Python, where `prefilter`, in the syntax of Rust's ``regex``, finds a candidate."""

    kind: str
    prefilter: str
    find: Callable[[str, Sequence[str]], list[Span]]


CHECKED = (
    Checked(
        "secret",
        r"(?i)(?:key|secret|token|passw(?:or)?d|pwd)[\"']?\s{0,3}(?:=>|[:=])[=\s\"']{0,4}[a-z0-9_\-+/.~]{16}"
        r"|bearer\s{1,3}[a-z0-9_\-+/.~]{16}",
        find_secrets,
    ),
    Checked("iban", r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}", find_ibans),
    Checked("card", r"[2-6][0-9]{3}(?:[0-9]{10}|[ -][0-9]{4}[ -][0-9]{4}|[ -][0-9]{6}[ -])", find_cards),
    Checked(
        "phone",
        r"\+[0-9](?:[ ().\-/]{0,2}[0-9]){6}|[0-9)][ .\-/]{1,2}[0-9](?:[ .\-/]?[0-9]){3}",
        find_phones,
    ),
)
"""In the order in which they are looked for: the longer numbers first."""
