"""The fenced blocks of an answer in Markdown."""

from __future__ import annotations

import textwrap

__all__ = ["fenced"]

_FENCE = "```"


def fenced(text: str, *languages: str) -> list[str]:
    r"""Contents of the blocks marked with one of the languages, or else of those that are marked with none.

    The last block may lack its end, as where an answer was cut off.

    >>> fenced("So:\n```sh\nls\n```\nor\n```python\nx = 1\n```", "python", "py")
    ['x = 1']
    """
    marked: list[tuple[str, str]] = []
    language: str | None = None
    lines: list[str] = []
    for line in [*text.split("\n"), _FENCE]:
        bare = line.strip()
        if language is None:
            if bare.startswith(_FENCE) and _FENCE not in bare[len(_FENCE) :]:
                language, lines = (bare[len(_FENCE) :].split() or [""])[0].lower(), []
        elif bare == _FENCE:
            marked.append((language, textwrap.dedent("\n".join(lines))))
            language = None
        else:
            lines.append(line)
    named = [block for name, block in marked if name in languages]
    return named or [block for name, block in marked if not name]
