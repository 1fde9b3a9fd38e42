"""What a refusal with status 401 demands of the next token."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

_CLAIMS: Final = re.compile(r'claims="([A-Za-z0-9+/_=-]{1,4000})"')


def demanded_claims(headers: Mapping[str, str]) -> str | None:
    """Return what a challenge demands of the next token, decoded; None if it demands nothing in particular."""
    found = _CLAIMS.search(headers.get("WWW-Authenticate", ""))
    if found is None:
        return None
    text = found[1].replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
