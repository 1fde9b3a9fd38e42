"""Cut line blobs into segments of complete lines, with line ends unchanged. Pure.

The last line waits for its newline until the blob is closed, and is then complete as it is. A line longer than the limit is
skipped, however many windows it fills, and reported by reference once its length is known.
"""

from __future__ import annotations

from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.segments import SegmentFormat
from services.ingest.cutting.window import Bad, Cut, Outlook, Progress, SizeLimits, Window, by_reference

_NEWLINE = b"\n"
_TOO_LONG = "line longer than ingest.max_line_bytes, or than its topic accepts"


def advance(window: Window, form: SegmentFormat, limits: SizeLimits) -> Progress:
    """Return the segments of the complete lines in `window`, and where to continue."""
    if window.skip_from is not None:
        return _skip(window, window.skip_from)
    data = window.data
    whole = data.rfind(_NEWLINE) + 1
    if whole == 0:
        return _no_whole_line(window, form, limits)
    cuts, bad = _cut_lines(window, whole, form, limits)
    finished = window.at_end and (whole == len(data) or not window.closing)
    return Progress(
        next_offset=window.start + whole,
        outlook=Outlook.DONE if finished else Outlook.MORE,
        cuts=cuts,
        bad=bad,
        first=(0, data.find(_NEWLINE) + 1),
    )


def resync(data: bytes) -> int | None:
    """Return the index after the first newline, or None if there is none."""
    newline = data.find(_NEWLINE)
    return newline + 1 if newline >= 0 else None


def _no_whole_line(window: Window, form: SegmentFormat, limits: SizeLimits) -> Progress:
    data, start = window.data, window.start
    if len(data) > limits.line:
        return _skip_on(window, start)
    if not window.at_end:
        return Progress(start, Outlook.WIDEN)
    if not window.closing or not data:
        return Progress(start, Outlook.DONE)
    cut = Cut(start, window.end, data, form, records=1)
    return Progress(window.end, Outlook.DONE, cuts=(cut,), first=(0, len(data)))


def _skip(window: Window, skip_from: int) -> Progress:
    """Search for the end of an over-long line."""
    behind = resync(window.data)
    if behind is None:
        return _skip_on(window, skip_from)
    bad = _too_long(window, skip_from, window.start + behind)
    finished = window.at_end and behind == len(window.data)
    return Progress(bad.end, Outlook.DONE if finished else Outlook.MORE, bad=(bad,))


def _skip_on(window: Window, skip_from: int) -> Progress:
    first = (0, len(window.data)) if skip_from == window.start else None
    if window.at_end and window.closing:
        return Progress(window.end, Outlook.DONE, bad=(_too_long(window, skip_from, window.end),), first=first)
    outlook = Outlook.DONE if window.at_end else Outlook.MORE
    return Progress(window.end, outlook, skip_from=skip_from, first=first)


def _too_long(window: Window, start: int, end: int) -> Bad:
    head = window.data if start == window.start else b""  # if missing, the reader fetches it
    return by_reference(start, end, head, ErrorCode.TOO_LARGE, _TOO_LONG)


def _cut_lines(window: Window, whole: int, form: SegmentFormat, limits: SizeLimits) -> tuple[tuple[Cut, ...], tuple[Bad, ...]]:
    # If the line limit is below the segment limit, segments are limited to it too, so that every over-long line is noticed.
    limit = min(limits.segment, limits.line)
    data, start = window.data, window.start
    cuts: list[Cut] = []
    bad: list[Bad] = []
    position = 0
    while position < whole:
        end = data.rfind(_NEWLINE, position, position + limit) + 1
        if end == 0:
            end = data.index(_NEWLINE, position + limit - 1) + 1
            if end - position > limits.line:
                part = data[position : position + limits.line]
                bad.append(by_reference(start + position, start + end, part, ErrorCode.TOO_LARGE, _TOO_LONG))
                position = end
                continue
        text = data[position:end]
        cuts.append(Cut(start + position, start + end, text, form, records=text.count(_NEWLINE)))
        position = end
    return tuple(cuts), tuple(bad)
