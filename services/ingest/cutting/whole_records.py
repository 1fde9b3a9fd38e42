"""Cut documents into segments of complete records, never including the tail. Pure.

A blob may contain any number of documents, and records outside a document. Text between two records, even where one document
ends and another begins, belongs to the record after it.

The cursor is always where a later read can resume: after the last complete record, or after the white space behind it if a
block ends there. Small records are combined into segments, an over-long one is cut into pieces. Bytes that no continuation can
turn into a record become dead letters, up to the next beginning of a record; if they are too long even for that, by reference.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from libs.common.framing.frame import FramedRecords, Rest, Span, blank_end, frame, resync
from libs.common.framing.lead import HEAD
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.segments import SegmentFormat
from services.ingest.cutting.pieces import cut_record
from services.ingest.cutting.window import Bad, Cut, Outlook, Progress, SizeLimits, Window, by_reference, with_bytes

_CATEGORY = re.compile(rb'"category"[ \t\r\n]*:[ \t\r\n]*"(FlowLogFlowEvent|NetworkSecurityGroupFlowEvent)"')
_FORMATS = {b"FlowLogFlowEvent": SegmentFormat.VNET, b"NetworkSecurityGroupFlowEvent": SegmentFormat.NSG}

_TAIL = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*\]")

_SHORTEST_SKIP = 32_768

_NOT_A_RECORD = "no JSON record can begin or continue here; reading continues at the next record"
_NO_END = "record without an end"
_LEFTOVER = "incomplete record at the end of a closed blob"
_TOO_LONG = "record that cannot be cut to fit ingest.segment_bytes or its topic's limit"


def advance(window: Window, limits: SizeLimits) -> Progress:
    """Return the segments of the complete records in `window`, and where to continue."""
    if window.skip_from is not None:
        return _skip(window, window.skip_from)
    framed = frame(window.data)
    if not framed.spans:
        return _no_whole_record(window, framed.rest, limits)
    cuts, bad = _cut_records(window, framed, limits)
    return Progress(
        next_offset=max([window.start, *(c.end for c in cuts[-1:]), *(b.end for b in bad[-1:])]),
        outlook=_outlook(window, framed),
        cuts=cuts,
        bad=bad,
        first=framed.spans[0],
    )


def _outlook(window: Window, framed: FramedRecords) -> Outlook:
    """Decide how to continue after complete records."""
    match framed.rest:
        case Rest.BROKEN | Rest.MORE:
            return Outlook.MORE
        case Rest.PARTIAL:
            return Outlook.MORE if window.closing or not window.at_end else Outlook.DONE
        case Rest.NOTHING | Rest.TAIL:
            return Outlook.DONE if window.at_end else Outlook.MORE


def _no_whole_record(window: Window, rest: Rest, limits: SizeLimits) -> Progress:
    head = HEAD.match(window.data) if window.start == 0 else None
    begin = head.end() if head else 0
    if rest in {Rest.NOTHING, Rest.TAIL} and window.at_end:
        return Progress(window.start, Outlook.DONE)
    if rest is Rest.BROKEN or (window.at_end and window.closing):
        found = resync(window.data, begin, _block_starts(window))
        if found is not None:
            bad = with_bytes(window.start, window.data[:found], limits.segment, _NOT_A_RECORD)
            return Progress(window.start + found, Outlook.MORE, bad=bad, first=(begin, found))
    if not window.at_end and not window.widest:
        return Progress(window.start, Outlook.WIDEN)
    if window.at_end and len(window.data) < limits.record:
        return _leftover(window, begin, limits) if window.closing else Progress(window.start, Outlook.DONE)
    if rest is Rest.BROKEN and window.closing and _TAIL.match(window.data, begin):
        return _leftover(window, begin, limits)
    return _skip(window, window.start)


def _leftover(window: Window, begin: int, limits: SizeLimits) -> Progress:
    """Dead-letter the end of a closed blob, by reference where it is too long; the cursor stays.

    So if the blob reopens, it can still complete its record.
    """
    bad = with_bytes(window.start, window.data, limits.segment, _LEFTOVER)
    if not window.at_end:
        bad += (
            by_reference(window.end, window.blob_end, b"", ErrorCode.BAD_JSON, _LEFTOVER),
        )  # the reader fetches the first bytes
    return Progress(window.start, Outlook.DONE, bad=bad, first=(begin, len(window.data)))


def _skip(window: Window, skip_from: int) -> Progress:
    """Search for the next record after one whose end was not found."""
    data, start = window.data, window.start
    head = data if skip_from == start else b""  # if missing, the reader fetches it
    first = (0, len(data)) if skip_from == start else None
    found = resync(data, 0, _block_starts(window))
    if found is not None:
        bad = by_reference(skip_from, start + found, head, ErrorCode.TOO_LARGE, _NO_END)
        return Progress(start + found, Outlook.MORE, bad=(bad,), first=first)
    if window.at_end and window.closing:
        bad = by_reference(skip_from, window.end, head, ErrorCode.TOO_LARGE, _NO_END)
        return Progress(window.end, Outlook.DONE, bad=(bad,), first=first)
    # Half a window, so that a record across its end is complete in the next one.
    step = len(data) // 2 if len(data) > _SHORTEST_SKIP else 0
    outlook = Outlook.DONE if window.at_end else Outlook.MORE
    return Progress(start + step, outlook, skip_from=skip_from, first=first)


def _block_starts(window: Window) -> list[int]:
    """Return the beginnings of blocks, as indexes into the window's data."""
    ends = window.block_ends
    low, high = bisect_right(ends, window.start), bisect_right(ends, window.start + len(window.data))
    return [end - window.start for end in ends[low:high]]


def _cut_records(window: Window, framed: FramedRecords, limits: SizeLimits) -> tuple[tuple[Cut, ...], tuple[Bad, ...]]:
    """Combine records into segments as large as the limit allows; each begins where the previous one ended."""
    data, start = window.data, window.start
    cuts: list[Cut] = []
    bad: list[Bad] = []
    position = 0
    last = _resting_place(window, framed.spans[-1][1])
    for first, count, end in _groups(framed.spans, limits.segment):
        stop = last if end == framed.spans[-1][1] and last - position <= limits.segment else end
        if stop - position <= limits.segment or count > 1:
            cuts.append(Cut(start + position, start + stop, data[position:stop], _format(data, first), count))
        else:
            pieces = _cut_pieces(window, (position, first[0], stop), limits)
            cuts += pieces
            if not pieces:
                bad.append(by_reference(start + position, start + stop, data[position:stop], ErrorCode.TOO_LARGE, _TOO_LONG))
        position = stop
    return tuple(cuts), tuple(bad)


def _groups(spans: list[Span], limit: int) -> Iterator[tuple[Span, int, int]]:
    """Yield the first record, the number of records and the end of each group that fits in `limit`."""
    begin, first, count, end = 0, spans[0], 0, 0
    for span in spans:
        if count and span[1] - begin > limit:
            yield first, count, end
            begin, first, count = end, span, 0
        count += 1
        end = span[1]
    yield first, count, end


def _cut_pieces(window: Window, place: tuple[int, int, int], limits: SizeLimits) -> list[Cut]:
    """Cut the record at `place` (segment start, record start, end); return nothing if it cannot be cut."""
    position, record, end = place
    before = window.data[position:record]
    pieces = cut_record(window.data[record:end], limits.segment - len(before)) or []
    form = _format(window.data, (record, end))
    return [
        Cut(
            start=window.start + position,
            end=window.start + end,
            data=before + piece.data,
            format=form,
            records=1 if number == 0 else 0,
            piece=number,
            count=len(pieces),
            first_tuple=piece.first_tuple,
        )
        for number, piece in enumerate(pieces)
    ]


def _resting_place(window: Window, end: int) -> int:
    """Move `end` past white space to the end of a block, if one ends there: block ids then identify everything before it."""
    blank = blank_end(window.data, end)
    index = bisect_right(window.block_ends, window.start + blank)
    block_end = window.block_ends[index - 1] - window.start if index else 0
    return max(end, block_end)


def _format(data: bytes, record: Span) -> SegmentFormat:
    match = _CATEGORY.search(data, *record)
    return _FORMATS[match.group(1)] if match else SegmentFormat.RECORDS
