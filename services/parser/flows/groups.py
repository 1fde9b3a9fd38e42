"""Data about tuple arrays, as parallel lists with one entry per array, not per tuple."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

MAX_NAME: Final = 1_024
"""In characters; ids of Azure resources stay below 400. Names are repeated in each row of a record, in text formats too."""

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


@dataclass(slots=True)
class TupleArrays:
    """Tuple arrays in the order of their tuples, with the values that surround them in the record."""

    rules: list[str | None] = field(default_factory=list)
    acls: list[str | None] = field(default_factory=list)
    macs: list[str | None] = field(default_factory=list)
    tuples: list[msgspec.Raw] = field(default_factory=list)
