"""The header ``Authorization``."""

from __future__ import annotations

import base64


def authorization(
    *, basic: tuple[str, str] | None = None, api_key: str | None = None, bearer: str | None = None
) -> dict[str, str]:
    """Return the header for one of the ways to sign in, or none. An API key is ``id:key``, or the same in base64."""
    if basic is not None:
        return {"Authorization": f"Basic {_base64(':'.join(basic))}"}
    if api_key is not None:
        return {"Authorization": f"ApiKey {_base64(api_key) if ':' in api_key else api_key}"}
    return {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
