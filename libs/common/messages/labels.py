"""Labels: what the name of a blob and the configuration say about it, such as its service and its pod.

The monitor derives them when it announces a blob. They travel as a map in the events about a blob, and as a JSON object in a
header of each of its segments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

Labels = Mapping[str, str]

MOST_LABEL_BYTES: Final = 4_096
"""Labels take at most this many bytes of a message, as a JSON object."""


def pack_labels(labels: Labels) -> bytes:
    """Return `labels` as a JSON object, in their order; nothing if there are none."""
    return msgspec.json.encode(labels) if labels else b""
