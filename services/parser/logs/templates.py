"""Fill templates with the contents of slots: a text for each line, without a Python object for any. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from libs.common.rows.column_values import text_ends
from services.parser.dictionary_columns import Rows
from services.parser.logs.lines import Flags
from services.parser.logs.readings import RestTemplate


def filled(
    templates: Sequence[RestTemplate | None], template: Rows, pieces: pa.BinaryArray, first_piece: Rows
) -> pa.StringArray:
    """Return a text for each line; null where there is no template.

    `template` has the index of the template of each line. The contents of its slots are every second one of the `pieces`, after
    `first_piece`.
    """
    count = len(template)
    if not count or all(one is None for one in templates):
        return pa.nulls(count, pa.string())
    texts, parts, sizes = _parts(templates)
    pool = pa.concat_arrays([pa.array(texts, pa.string()).cast(pa.binary()), pieces])
    each = sizes[template]
    ends = np.cumsum(each)
    line = np.repeat(np.arange(count), each)
    part = parts[((np.cumsum(sizes) - sizes)[template] - ends + each)[line] + np.arange(ends[-1])]
    piece = np.where(part >= 0, part, (first_piece + len(texts))[line] - part)
    written = pool.take(pa.array(piece))
    edges = text_ends(written)[np.concatenate(([0], ends))]
    found = pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(edges), written.buffers()[2]])
    return found if all(templates) else _masked(found, each > 0)


def _parts(templates: Sequence[RestTemplate | None]) -> tuple[list[str], Rows, Rows]:
    """Return texts, the parts of all templates, and how many each template has.

    A part is the number of a text, or if it is negative, that of a piece of the line.
    """
    numbers: dict[str, int] = {}
    parts: list[int] = []
    sizes: list[int] = []
    for template in templates:
        before = len(parts)
        if template is not None:
            for text, slot in zip(template.texts, (*template.slots, None), strict=True):
                parts.append(numbers.setdefault(text, len(numbers)))
                if slot is not None:
                    parts.append(-1 - 2 * slot)
        sizes.append(len(parts) - before)
    return list(numbers), np.array(parts, np.int64), np.array(sizes, np.int64)


def _masked(texts: pa.StringArray, present: Flags) -> pa.StringArray:
    validity = pa.array(present).buffers()[1]  # a bit for each
    return pa.Array.from_buffers(pa.string(), len(texts), [validity, *texts.buffers()[1:]])
