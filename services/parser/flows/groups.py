"""What is known of each tuple array, as parallel lists: one entry an array, none a tuple."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

MAX_NAME: Final = 1_024
"""Characters; ids of Azure resources stay below 400. What a record says once stands in each of its rows, as text too."""

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


@dataclass(slots=True)
class TupleArrays:
    """Tuple arrays in the order of their tuples, with what their surroundings say about them."""

    rules: list[str | None] = field(default_factory=list)
    acls: list[str | None] = field(default_factory=list)
    macs: list[str | None] = field(default_factory=list)
    tuples: list[msgspec.Raw] = field(default_factory=list)
