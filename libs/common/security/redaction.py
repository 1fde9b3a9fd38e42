"""Remove credentials from text before anybody sees it: log lines, errors, reasons of dead letters, server responses.

This is done in two ways, since neither is enough alone. `remember` is given every configured secret, and these are found
wherever they appear, even encoded for a URL or as base64. Text that looks like a credential is found as well, for those that
nobody configured: signatures that we made, tokens that we received, text quoted by servers and libraries.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus

HIDDEN: Final = "***"

_SHORTEST: Final = 4  # anything shorter occurs in ordinary words
_WHOLE_WORD: Final = 8  # anything shorter counts only as a separate word
_DEEPEST: Final = 20

_NAME = (
    r"(?:(?:(?<![a-z0-9])|(?<=%26)|(?<=%3f))sig|signature|passw(?:or)?d|pwd|passphrase|secret|token|connection[_.-]?string"
    r"|(?:account|access|api|private|shared)[_.-]?key)"
)
_SECRET_NAME = re.compile(rf"(?i:(?:{_NAME}|authorization|cookie)$)")
_NAME_WORDS = ("sig", "passw", "passphrase", "pwd", "secret", "token", "key", "string")
# Each with words, at least one of which must occur (searching for a word is a hundred times as fast), and the replacement.
_LOOKS_SECRET: Final = (
    # The value of something named like a secret: after an equals sign, or quoted (perhaps within a quotation).
    (
        _NAME_WORDS,
        re.compile(rf"(?i)({_NAME}\s*(?:=|%3d)\s*)(?!\.\.\.)(?:(?!%26|%3b|\\+[\"'])[^&;\s\"'<>])+"),
        r"\1***",
    ),
    (
        _NAME_WORDS,
        re.compile(
            rf"(?i)({_NAME}(?:\\*[\"'])?\s*[=:]\s*)(?:"
            r"(\\+[\"'])(?:(?!\2).)+|(\")(?:[^\"\\]|\\.)+|(')(?:[^'\\]|\\.)+)",
            re.DOTALL,
        ),
        r"\1\2\3\4***",
    ),
    # Headers that authenticate, and their values. A lower-case word is part of a sentence.
    (
        ("authorization", "api-key", "cookie"),
        re.compile(r"(?i)((?:authorization|api-key|cookie)(?:\\*[\"'])?\s*[:=]\s*(?:\\*[\"'])?)[^\"'\\\r\n,}]+"),
        r"\1***",
    ),
    (
        ("bearer", "basic", "key"),
        re.compile(
            r"\b((?i:bearer|basic|apikey|sharedkey(?:lite)?)(?:\s|%20)+)(?![a-z]+(?:[\s,.;!?)\"']|:\s|$))(?!\*\*\*)[^\s,;\"'\\]+"
        ),
        r"\1***",
    ),
    # User and password in a URL. A password may contain a slash or an @; digits after a colon are a port.
    (
        ("://",),
        re.compile(
            r"://(?:[^\s/@:\"'<>]{0,256}:(?!\d{1,5}(?:/|$))[^\s@\"'<>]{0,256}@(?:[^\s/?#\"'<>]{0,256}@)?|[^\s/?#\"'<>]{1,256}@)"
        ),
        "://***@",
    ),
    # JSON Web Tokens and private keys.
    (("eyj",), re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]*"), HIDDEN),
    (
        ("-----begin",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        HIDDEN,
    ),
)

_lock = threading.Lock()
# Longest first: one secret may be part of another. Replaced as a whole, since every thread reads it.
_known: tuple[str, ...] = ()


def remember(secret: str) -> None:
    """Redact `secret` from now on. Secrets of fewer than four characters are ignored: they would match too much."""
    global _known  # noqa: PLW0603 - a secret is secret in the whole process
    forms = {form for form in _forms(secret.strip()) if len(form) >= _SHORTEST}
    with _lock:
        if not forms <= set(_known):
            _known = tuple(sorted({*_known, *forms}, key=len, reverse=True))
            redact_reason.cache_clear()


def forget() -> None:
    """Forget all secrets; for tests."""
    global _known  # noqa: PLW0603
    with _lock:
        _known = ()
        redact_reason.cache_clear()


def redact(text: str) -> str:
    """Return `text` with every credential replaced by asterisks."""
    for secret in _known:
        if secret in text:
            text = _without(text, secret)
    lower = text.lower()
    for words, pattern, instead in _LOOKS_SECRET:
        if any(word in lower for word in words):
            text = pattern.sub(instead, text)
    return text


@lru_cache(256)
def redact_reason(text: str) -> str:
    """Return the same as `redact`, for texts that repeat: results for the few distinct ones are cached."""
    return redact(text)


def excerpt(text: str | bytes, most: int = 300) -> str:
    """Return the beginning of a server's response as one line, redacted before cutting, which could hide a credential."""
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    return redact(" ".join(shown[: 16 * most].split()))[:most]


def redact_value(value: Any, depth: int = 0) -> Any:
    """Return `value` as plain data without credentials, including those recognised by their keys."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact(value)
        case _ if depth >= _DEEPEST:
            return redact(repr(value))
        case dict():
            return {_plain(name): _named(name, inner, depth + 1) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [redact_value(inner, depth + 1) for inner in value]
        case _:
            return redact(repr(value))


def is_secret_name(name: str) -> bool:
    """Return whether something with this name is a secret."""
    return _SECRET_NAME.search(name) is not None


def _named(name: object, value: Any, depth: int) -> Any:
    if isinstance(name, str | bytes) and is_secret_name(str(_plain(name))) and value is not None:
        return HIDDEN
    return redact_value(value, depth)


def _plain(name: object) -> str:
    return redact(name.decode(errors="replace") if isinstance(name, bytes) else str(name))


def _without(text: str, secret: str) -> str:
    if len(secret) >= _WHOLE_WORD:
        return text.replace(secret, HIDDEN)
    return re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", HIDDEN, text)


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms in which a secret may appear."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    data = secret.encode(errors="surrogatepass")
    for encoded in (quote(data), quote(data, safe=""), quote_plus(data)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), encoded)
    for text in _base64_forms(data):
        yield text
        yield text.replace("+", "-").replace("/", "_")
        yield quote(text, safe="")


def _base64_forms(data: bytes) -> Iterator[str]:
    """Yield `data` in base64, by itself and, without its edges, as part of something longer (``user:password``)."""
    yield base64.b64encode(data).decode()
    for before, edge in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(data)) // 3 * 4
        inner = base64.b64encode(b"\0" * before + data).decode()[edge:whole]
        if len(inner) >= _WHOLE_WORD:
            yield inner
