"""Find the slots of lines and understand their shapes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from libs.common.rows.column_values import text_ends
from services.parser.dictionary_columns import Rows
from services.parser.logs.shapes import JsonShape, Shapes
from services.parser.logs.slots import Slots


@dataclass(frozen=True, slots=True)
class FoundShapes:
    """The slots of lines, cut into pieces; the distinct shapes, and the index in them of each line's, -1 if it has none."""

    slots: Slots
    pieces: pa.BinaryArray
    shapes: list[JsonShape]
    shape: Rows


def find_shapes(slots: Slots, shapes: Shapes) -> FoundShapes:
    """Find the shapes of lines by their skeletons."""
    pieces = slots.pieces()
    per_line = np.diff(slots.first) + 1  # gaps
    is_gap = np.ones(len(pieces) - 1, np.bool_)
    is_gap[slots.numbers_of_pieces()] = False
    gaps = pieces.take(pa.array(np.flatnonzero(is_gap)))
    first_gap = np.concatenate(([0], np.cumsum(per_line)))
    edges = text_ends(gaps).take(first_gap)
    words = pa.Array.from_buffers(
        pa.binary(), len(per_line), [None, pa.py_buffer(edges), gaps.buffers()[2]]
    ).dictionary_encode()
    of_word = words.indices.to_numpy()
    examples = np.empty(len(words.dictionary), np.int64)
    examples[of_word] = np.arange(len(of_word))
    found: list[JsonShape] = []
    index = np.full(len(examples), -1, np.int64)
    for number, (skeleton, line) in enumerate(zip(words.dictionary.to_pylist(), examples.tolist(), strict=True)):
        shape = shapes.of_skeleton(skeleton, gaps.slice(first_gap[line], per_line[line]).to_pylist)
        if shape is not None:
            index[number] = len(found)
            found.append(shape)
    shape = index[of_word]
    sizes = np.array([len(one.strings) + 1 for one in found] + [-1], np.int64)  # the last one is that of no shape
    return FoundShapes(slots, pieces, found, np.where(sizes[shape] == per_line, shape, -1))
