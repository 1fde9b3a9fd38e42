"""Pages of listings: the lean reader says what an XML parser says, whatever storage may write."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.azure.retry import Transient
from libs.common.azure.storage.api import ListedBlob
from libs.common.azure.storage.page import _read_lean, _read_tree, parse_xml, read_page

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TIMES = st.sampled_from(
    ["Fri, 01 May 2026 12:00:00 GMT", "Sat, 29 Feb 2020 23:59:59 GMT", "Thu, 31 Dec 1970 00:00:00 GMT", "yesterday", ""]
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=20)


def visible(name: str) -> str:
    """Drop what XML cannot hold."""
    return "".join(c for c in name if c >= " " or c in "\t\n\r") or "x"


def plain(name: str) -> str:
    """Write a name with entities for what needs them."""
    return f"<Name>{escape(visible(name), {chr(13): '&#xD;'})}</Name>"


NAME_FORMS = st.sampled_from(
    [
        plain,
        plain,
        lambda name: f"<Name>{''.join(f'&#{ord(c)};' for c in visible(name))}</Name>",
        lambda name: f"<Name>&#x41;{escape(visible(name))}</Name>",
        lambda name: f"<Name><![CDATA[{visible(name).replace(']]>', '')}]]></Name>",
        lambda _: '<Name Encoded="true">a%EF%BF%BE%20b</Name>',
        lambda name: f"<Name><!-- {len(name)} -->n</Name>",
    ]
)
PROPERTY = st.sampled_from(
    [
        "<Content-Length>12</Content-Length>",
        "<Content-Length>0x1</Content-Length>",
        "<Etag>0x8D</Etag>",
        '<Etag>"0x8E"</Etag>',
        "<Etag/>",
        "<Content-MD5 />",
        "<Content-Type>text/plain; a=&quot;b&quot;</Content-Type>",
        "<Content-Type>text/plain</Content-Type>",
        "<BlobType>AppendBlob</BlobType>",
        "<BlobType/>",
        "<AccessTier>Archive</AccessTier>",
        "<AccessTier>Hot</AccessTier>",
        "<ResourceType>directory</ResourceType>",
        "<ResourceType>file</ResourceType>",
        "<New><Nested>1</Nested></New>",
        "<LeaseState>available</LeaseState>",
        "<x-ms-blob-sequence-number>0</x-ms-blob-sequence-number>",
    ]
)
USUAL = "<Content-Length>7</Content-Length><Content-Encoding /><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier>"
EXTRA = st.sampled_from(
    [
        "",
        "<OrMetadata />",
        "<Metadata><a>b</a></Metadata>",
        "<Tags><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tags>",
        "<Snapshot>2026-05-01T12:00:00.0000000Z</Snapshot>",
        "<Deleted>true</Deleted>",
        "<VersionId>2026</VersionId><IsCurrentVersion>true</IsCurrentVersion>",
        " ",
    ]
)


@st.composite
def blobs(draw: st.DrawFn) -> str:
    """Write one blob; most are as storage writes them."""
    name = draw(NAME_FORMS)(draw(NAMES))
    times = f"<Creation-Time>{draw(TIMES)}</Creation-Time><Last-Modified>{draw(TIMES)}</Last-Modified>"
    usual = f"{times}<Etag>0x{draw(st.integers(1, 9**9)):X}</Etag>{USUAL}"
    properties = draw(st.one_of(st.just(usual), st.lists(PROPERTY, max_size=8).map("".join).map(lambda more: times + more)))
    before, after = draw(st.sampled_from(["", "", "", draw(EXTRA)])), draw(EXTRA)
    return f"<Blob>{name}{before}<Properties>{properties}</Properties>{after}</Blob>"


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    """Write a page."""
    start = draw(st.sampled_from(["", "\ufeff", '<?xml version="1.0" encoding="utf-8"?>', "\ufeff<?xml version='1.0'?>\n"]))
    head = draw(st.sampled_from(["", "<Prefix>a&amp;b</Prefix><MaxResults>5</MaxResults>", "<Prefix>&lt;Blobs&gt;</Prefix>"]))
    prefix = draw(st.sampled_from(["", "", "<BlobPrefix><Name>d/</Name></BlobPrefix>"]))
    tail = draw(st.sampled_from(["", "<NextMarker/>", "<NextMarker>2!a&amp;b</NextMarker>", "<Later><Blobs></Blobs></Later>"]))
    inner = "".join(draw(st.lists(blobs(), max_size=4)))
    return f"{start}<EnumerationResults A='b'>{head}<Blobs>{prefix}{inner}</Blobs>{tail}</EnumerationResults>".encode()


def fields(blob: ListedBlob) -> tuple[object, ...]:
    """Return all that is known of a blob."""
    return (
        *(blob.name, blob.etag, blob.size, blob.blob_type),
        *(blob.last_modified, blob.creation_time, blob.archived, blob.as_of),
    )


def by_tree(body: bytes) -> tuple[list[tuple[object, ...]], str] | None:
    """Read a page with the XML parser; None if it refuses."""
    try:
        page = _read_tree(parse_xml(body, "EnumerationResults"), NOW)
    except (Transient, KeyError, ValueError):
        return None
    return [fields(blob) for blob in page.blobs], page.marker


def by_reader(body: bytes) -> tuple[list[tuple[object, ...]], str] | None:
    """Read a page as the listing does; None if it refuses."""
    try:
        page = read_page(body, NOW)
        return [fields(blob) for blob in page.blobs], page.marker
    except (Transient, KeyError, ValueError):
        return None


@given(pages())
def test_a_page_is_read_as_an_xml_parser_reads_it(body: bytes) -> None:
    """Whatever names, properties and elements a page has: the same blobs, values and marker, or refused by both."""
    assert by_reader(body) == by_tree(body)


WHOLE = (
    '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a/" ContainerName="c"><Blobs>'
    + "".join(
        f"<Blob><Name>x/{n}.json</Name><Properties><Creation-Time>Fri, 01 May 2026 12:00:00 GMT</Creation-Time>"
        f"<Last-Modified>Fri, 01 May 2026 12:00:0{n} GMT</Last-Modified><Etag>0x{n}</Etag>{USUAL}"
        "<LeaseStatus>unlocked</LeaseStatus></Properties><OrMetadata /></Blob>"
        for n in range(3)
    )
    + "</Blobs><NextMarker /></EnumerationResults>"
).encode()


@given(st.integers(0, len(WHOLE)), st.integers(0, 12), st.binary(max_size=6), st.integers(0, len(WHOLE)))
@example(WHOLE.index(b"<Blobs>"), 7, b"<Blobs><Blobs>", 0)
@example(WHOLE.index(b"x/1"), 1, b"\x00", 0)
def test_a_damaged_page_is_refused_or_read_as_an_xml_parser_reads_it(place: int, length: int, by: bytes, copied: int) -> None:
    """Where the XML parser reads a page, so does the lean reader, and alike; nothing makes it raise anything of its own."""
    for middle in (by, WHOLE[copied : copied + length]):
        body = WHOLE[:place] + middle + WHOLE[place + length :]
        expected = by_tree(body)
        found = by_reader(body)
        if expected is not None:
            assert found == expected


def test_a_page_as_storage_writes_it_is_read_in_one_pass() -> None:
    """The lean reader takes what is usual, also without creation times and tiers, and leaves the rest to the XML parser."""
    assert _read_lean(WHOLE, NOW) is not None
    assert _read_lean(WHOLE.replace(b"<Creation-Time>Fri, 01 May 2026 12:00:00 GMT</Creation-Time>", b""), NOW) is not None
    assert _read_lean(WHOLE.replace(b"x/1", b"x&amp;1"), NOW) is None


def test_times_are_converted_when_asked_for() -> None:
    """A blob of a page holds text; a day that its month does not have counts on into the next."""
    (blob, *_) = read_page(WHOLE.replace(b"Fri, 01 May 2026 12:00:00 GMT</L", b"Tue, 30 Feb 2021 01:02:03 GMT</L"), NOW).blobs
    assert blob.last_modified == datetime(2021, 3, 2, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"<EnumerationResults>", b"<Blobs></Blobs>", b"<html><Blobs></Blobs></html>"]
)
def test_what_is_no_page_is_asked_for_again(body: bytes) -> None:
    """An answer of something on the way is no empty listing."""
    with pytest.raises(Transient):
        read_page(body, NOW)
