"""The methods of HTTP that requests may use."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """A method of HTTP."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
