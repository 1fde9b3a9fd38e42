"""The Lua script that writes each row to a stream once, however often it arrives and however it is batched.

A stream has no ids of our own to recognise rows by, so the script records next to the stream how far each blob generation has
been written: one key per generation with the highest (record_offset, tuple_index). Rows of a blob arrive in order, so a row at
or below it was written before. Rows and positions are written by one script, which Redis runs completely or not at all, and the
same holds for its append-only file.

Calls are sent without waiting for earlier replies. If an earlier call failed, a later one would raise the position above rows
that are missing. A call therefore states the positions that its generations must have reached, and fails if they have not.

KEYS  1: the stream; 2...: the position keys of the generations in this call, all in the stream's slot
ARGV  1: seconds to remember a position; 2: entries to keep, 0 for all; 3: seconds to keep entries, 0 for ever
      4: the rows, 24 bytes each: number of the position key, length of the document (uint32), offset, index (doubles)
      5: the documents, concatenated: a single argument costs both sides less than one per row
      6: the position that each generation must have reached, 16 bytes each: offset, index (doubles), -1 for none
Returns the number of added entries, or the error BEHIND.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.formats.json import text_bytes
from libs.common.rows.identity import Identities
from libs.common.rows.row_text import Ints

# Doubles, because Lua's numbers are doubles; offsets are exact up to 2^53.
_ROW: Final = np.dtype([("key", "<u4"), ("length", "<u4"), ("offset", "<f8"), ("index", "<f8")])

Positions = np.ndarray[tuple[int, int], np.dtype[np.int64]]  # one row each: record_offset, tuple_index

_APPEND_ONCE: Final = """
local stream, rows, documents, befores = KEYS[1], ARGV[4], ARGV[5], ARGV[6]
local reached, moved, added = {}, {}, 0
for i = 2, #KEYS do
  local offset, index = -1, -1
  local position = redis.call('GET', KEYS[i])
  if position then
    offset, index = string.match(position, '^(%d+) (%d+)$')
    offset, index = tonumber(offset), tonumber(index)
  end
  local before, before_index = struct.unpack('<dd', befores, (i - 2) * 16 + 1)
  if offset < before or (offset == before and index < before_index) then
    return redis.error_reply('BEHIND the call before this one has not run')
  end
  reached[i - 1] = {offset, index}
end
local at, from = 1, 1
while at <= #rows do
  local key, length, offset, index
  key, length, offset, index, at = struct.unpack('<IIdd', rows, at)
  local last = reached[key]
  if offset > last[1] or (offset == last[1] and index > last[2]) then
    redis.call('XADD', stream, '*', '<field>', string.sub(documents, from, from + length - 1))
    last[1], last[2], moved[key] = offset, index, true
    added = added + 1
  end
  from = from + length
end
for key, _ in pairs(moved) do
  local position = string.format('%.0f %.0f', reached[key][1], reached[key][2])
  redis.call('SET', KEYS[key + 1], position, 'EX', ARGV[1])
end
if added > 0 then
  local entries, seconds = tonumber(ARGV[2]), tonumber(ARGV[3])
  if entries > 0 then redis.call('XTRIM', stream, 'MAXLEN', '~', entries) end
  if seconds > 0 then
    local oldest = (redis.call('TIME')[1] - seconds) * 1000
    redis.call('XTRIM', stream, 'MINID', '~', string.format('%.0f', oldest))
    redis.call('EXPIRE', stream, seconds)
  else
    redis.call('PERSIST', stream)  -- an earlier setting may have given it an end
  end
end
return added
"""


def append_once(field: str) -> str:
    """Return the script for entries with a single field named `field` (letters only)."""
    return _APPEND_ONCE.replace("<field>", field)


@dataclass(frozen=True, slots=True)
class StreamRows:
    """Some rows of one stream."""

    generations: pa.Array  # distinct, 32 hex digits each
    generation: Ints  # for each row: index into `generations`
    record_offset: Ints
    tuple_index: Ints
    documents: pa.Array  # strings
    before: Positions  # for each generation: the position that it must have reached

    @classmethod
    def of(cls, identities: Identities, documents: pa.Array, chosen: slice, reached: Positions) -> StreamRows:
        """Return the `chosen` rows with their documents and only their own generations.

        `reached` holds the position of each generation of `identities` after the earlier calls, and is advanced past this one.
        """
        generation = identities.generation[chosen]
        offset, index = identities.offset[chosen], identities.index[chosen]
        used, local = np.unique(generation, return_inverse=True)
        before = reached[used]
        _advance(reached, generation, np.column_stack((offset, index)))
        return cls(identities.generations.take(pa.array(used)), local, offset, index, documents, before)

    def arguments(self) -> tuple[bytes, memoryview, bytes]:
        """Return ``ARGV[4]`` to ``ARGV[6]``, with the memory of `documents` rather than a copy."""
        rows = np.empty(len(self.documents), _ROW)
        rows["key"] = self.generation + 1
        rows["length"] = pc.binary_length(self.documents).to_numpy()
        rows["offset"] = self.record_offset
        rows["index"] = self.tuple_index
        return rows.tobytes(), text_bytes(self.documents).data, self.before.astype("<f8").tobytes()


def nowhere(identities: Identities) -> Positions:
    """Return the positions of generations if nothing is written yet."""
    return np.full((len(identities.generations), 2), -1, np.int64)


def _advance(reached: Positions, generation: Ints, places: Positions) -> None:
    """Raise `reached` to the highest position of each generation."""
    order = np.lexsort((places[:, 1], places[:, 0], generation))
    highest = order[np.flatnonzero(np.diff(generation[order], append=-1))]
    own, new = generation[highest], places[highest]
    old = reached[own]
    above = (new[:, 0] > old[:, 0]) | ((new[:, 0] == old[:, 0]) & (new[:, 1] > old[:, 1]))
    reached[own[above]] = new[above]
