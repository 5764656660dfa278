"""What redaction looks for by its form alone: e-mail addresses, keys and tokens, private keys, passwords in URLs.

The patterns are run by polars, so by Rust's ``regex``: no backtracking. Each repetition that may be followed by a failure
is bounded, or stops at a character that starts the next match, so that finding all matches is linear in the text as well.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SECRETS", "Secret"]


class Secret(NamedTuple):
    """A kind of secret that its form gives away.

    Attributes
    ----------
    kind : str
        What is counted.
    hints : tuple of str
        Literals, one of which any match contains: the cheap first look.
    pattern : str
        In the syntax of Rust's ``regex``.
    replacement : str
        What a match becomes; ``${1}`` stands for its first group.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: str
    replacement: str


_W = r"(?-u:\b)"  # of ASCII words, so that a key between Chinese characters has its ends too

_BEGIN, _END = (rf"-----{word} [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----" for word in ("BEGIN", "END"))
# Up to the END line no two dashes in a row, so a block never runs into the next one. One that was cut off ends with the
# last of its long tokens; a mere mention of the line stays.
_PRIVATE_KEY = rf"{_BEGIN}(?:(?:[^-]|-[^-])*{_END}|(?:(?:\s|\\[rn]){{0,4}}[A-Za-z0-9+/=]{{20,}})+)"

_LETTER = r"[A-Za-z0-9\u{C0}-\u{24F}]"  # Latin letters with accents too: müller@example.de
_LABEL = r"[A-Za-z0-9\u{C0}-\u{24F}-]{1,63}"
# 64 characters before the @ and 63 in a label (RFC 5321, 4.5.3.1.1; RFC 1035, 2.3.4); a host without a dot isn't mail's.
_EMAIL = rf"{_LETTER}[A-Za-z0-9\u{{C0}}-\u{{24F}}._%+-]{{0,63}}@(?:{_LABEL}\.){{1,6}}[A-Za-z]{{2,63}}"

# The prefixes that issuers document, or show in their consoles, so that scanners can tell their keys.
_KEYS: dict[str, tuple[tuple[str, ...], str]] = {
    "OpenAI, Anthropic, OpenRouter, Langfuse": (
        ("sk-", "pk-lf-"),
        r"sk-(?:(?:proj|svcacct|admin|None|ant|or|lf)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})|pk-lf-[0-9a-f-]{36}",
    ),
    "Stripe": (("k_live_", "k_test_", "whsec_"), r"(?:[prs]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}"),
    "AWS": (("AKIA", "ASIA", "ABIA", "ACCA"), r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}"),
    "GitHub": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"gh[opusr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}",
    ),
    "GitLab": (("glpat-",), r"glpat-[A-Za-z0-9_-]{20,}"),
    "Slack": (("xox", "xapp-"), r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}"),
    "Google": (("AIza", "ya29."), r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}"),
    "Hugging Face": (("hf_",), r"hf_[A-Za-z0-9]{30,}"),
    "Groq, xAI, Perplexity, Replicate": (
        ("gsk_", "xai-", "pplx-", "r8_"),
        r"(?:gsk_|xai-|pplx-)[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{37}",
    ),
    "LangSmith": (("lsv2_",), r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    "npm": (("npm_",), r"npm_[A-Za-z0-9]{36}"),
    "PyPI": (("pypi-",), r"pypi-AgE[A-Za-z0-9_-]{50,}"),
    "SendGrid": (("SG.",), r"SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}"),
    "Databricks": (("dapi",), r"dapi[0-9a-f]{32}"),
    "DigitalOcean": (("dop_v1_", "doo_v1_", "dor_v1_"), r"do[opr]_v1_[0-9a-f]{64}"),
    "Shopify": (("shpat_", "shpca_", "shppa_", "shpss_"), r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    "Telegram": ((":AA",), r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"),
}

SECRETS = (
    Secret("private_key", ("PRIVATE KEY",), _PRIVATE_KEY, "<PRIVATE_KEY>"),
    Secret(
        "jwt",  # header and payload are JSON objects in base64url, and '{"' begins with eyJ (RFC 7519, 3)
        ("eyJ",),
        rf"{_W}eyJ[A-Za-z0-9_-]{{10,}}\.eyJ[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]*)?",
        "<JWT>",
    ),
    Secret(
        "api_key",
        tuple(hint for hints, _ in _KEYS.values() for hint in hints),
        rf"{_W}(?:{'|'.join(pattern for _, pattern in _KEYS.values())}){_W}",
        "<API_KEY>",
    ),
    Secret(
        "api_key",  # whoever has the address of a Slack webhook can post
        ("hooks.slack.com",),
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}",
        "<API_KEY>",
    ),
    Secret(
        "secret",  # scheme://user:password@host
        ("://",),
        r"(://[^\s:/@<>]{0,64}:)[^\s/@<>]{1,128}@",
        "${1}<SECRET>@",
    ),
    Secret("email", ("@",), _EMAIL, "<EMAIL>"),
)
"""In the order in which they are looked for: a JWT or a password in a URL before what might match within it."""
