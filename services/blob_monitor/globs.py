"""Globs on blob names: ``*`` within a directory, ``**`` across, ``?`` one character, ``{a,b}`` either.

``**/`` also matches no directory at all. A glob matches the whole name, case-sensitively; all other characters are literal.
All globs of a filter become one regular expression whose wildcards do not backtrack into each other: matching takes at most
quadratic time in the length of the name, whatever the glob.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product

from libs.common.errors import ConfigError

_MAX_EXPANSIONS = 512
_ANY = "**"
_STAR = "*"
_BRACE_TOKEN = re.compile(r"[{},]|[^{},]+")
_ANY_DIRECTORIES = re.compile(r"(?<!\*)\*\*/")
_TOKEN = re.compile(r"\*\*+|\*|\?|[^*?]+")


def compile_globs(globs: Sequence[str]) -> re.Pattern[str]:
    """Return an expression whose ``fullmatch`` matches the names that match any of `globs`.

    Raises:
        ConfigError: braces are unbalanced, or a glob has too many alternatives.
    """
    return re.compile("|".join(_regex(simple) for glob in globs for simple in _expand(glob)), re.DOTALL)


def _expand(glob: str) -> list[str]:
    """Return the brace-free globs that `glob` stands for. After that, ``**/`` is expanded as ``{,**/}``."""
    found = [each for simple in _expand_braces(glob) for each in _expand_directories(glob, simple)]
    if len(found) > _MAX_EXPANSIONS:
        raise _too_many(glob)
    return found


def _expand_directories(glob: str, simple: str) -> list[str]:
    first, *rest = _ANY_DIRECTORIES.split(simple)
    current = [first]
    for part in rest:
        current = _join(glob, current, [part, f"**/{part}"])
    return current


def _expand_braces(glob: str) -> list[str]:
    # An open brace pushes two lists: the texts before it, and its finished alternatives.
    stack: list[list[str]] = []
    current = [""]
    for token in _BRACE_TOKEN.findall(glob):
        match token:
            case "{":
                stack += [current, []]
                current = [""]
            case "," if stack:
                stack[-1].extend(current)
                current = [""]
            case "}" if stack:
                alternatives = stack.pop() + current
                current = _join(glob, stack.pop(), alternatives)
            case "}":
                raise ConfigError(f"glob {glob!r}: unmatched closing brace")
            case _:
                current = [text + token for text in current]
    if stack:
        raise ConfigError(f"glob {glob!r}: unmatched opening brace")
    return current


def _join(glob: str, heads: Sequence[str], tails: Sequence[str]) -> list[str]:
    joined = [head + tail for head, tail in product(heads, tails)]
    if len(joined) > _MAX_EXPANSIONS:
        raise _too_many(glob)
    return joined


def _too_many(glob: str) -> ConfigError:
    return ConfigError(f"glob {glob!r}: more than {_MAX_EXPANSIONS} alternatives; split it into several globs")


def _regex(glob: str) -> str:
    """Return the expression for a brace-free glob.

    Between two ``**``, the earliest match of the text is always good enough, and likewise between two ``*`` within one
    directory: those matches are atomic. Only the last wildcard before a fixed end has to try several positions.
    """
    blocks = _split(_TOKEN.findall(glob), lambda token: token.startswith(_ANY))
    first, *rest = [_split(block, lambda token: token == _STAR) for block in blocks]
    if not rest:
        return _to_end(first)
    *middle, last = rest
    floating = "".join(f"(?>.*?{_earliest(block)})" for block in middle if block != [[]])
    return f"{_earliest(first)}{floating}.*{_to_end(last)}"


def _split(tokens: Sequence[str], separates: Callable[[str], bool]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for token in tokens:
        if separates(token):
            found.append([])
        else:
            found[-1].append(token)
    return found


def _earliest(chunks: Sequence[Sequence[str]]) -> str:
    """Match chunks with ``*`` between them, ending as early as possible."""
    head, *rest = map(_fixed, chunks)
    return head + "".join(f"(?>[^/]*?{chunk})" for chunk in rest)


def _to_end(chunks: Sequence[Sequence[str]]) -> str:
    """Match chunks with ``*`` between them, the last one at the end of the name."""
    *before, last = chunks
    return f"{_earliest(before)}[^/]*{_fixed(last)}" if before else _fixed(last)


def _fixed(chunk: Sequence[str]) -> str:
    return "".join("[^/]" if part == "?" else re.escape(part) for part in chunk)
