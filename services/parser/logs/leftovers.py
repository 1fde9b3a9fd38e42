"""Put members into documents, one by one: for values that no column can hold. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from services.parser.logs.shapes import Path

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def with_member(document: str | None, path: Path, value: str) -> str:
    """Return a JSON object, or a new one, with a member of which path and value are given, the value as JSON."""
    return _with_member((document or "{}").encode(), path, value.encode()).decode()


def _with_member(document: bytes, path: Path, value: bytes) -> bytes:
    name, *below = path
    members = _members.decode(document)
    members[name] = msgspec.Raw(_with_member(bytes(members.get(name, b"{}")), tuple(below), value) if below else value)
    return msgspec.json.encode(members)
