"""Which dead letters a dead-letters sink skips, so that a letter refused by its destination cannot circulate forever."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.select import Selected


class OtherLetters:
    """Leaves out the letters that this sink itself has caused, and those about dead letters, which other such sinks cause.

    Otherwise, two sinks whose destinations refuse the same letter would write letters about each other's letters forever.
    """

    def __init__(self, name: str, errors_topic: str) -> None:
        self._stage = f"sink.{name}"
        self._errors_topic = errors_topic

    def select(self, letters: pa.Table) -> Selected:
        """Return the other letters."""
        own = pc.equal(letters.column("stage"), self._stage)
        about_letters = pc.fill_null(pc.equal(letters.column("topic"), self._errors_topic), fill_value=False)
        kept = np.flatnonzero(pc.invert(pc.or_(own, about_letters)).to_numpy())
        if len(kept) == letters.num_rows:
            return Selected(letters)
        return Selected(letters.take(kept), letters.num_rows - len(kept), kept)
