"""Read a page of a listing in one pass over its text, at a quarter of the cost of an XML tree and with the same result.

Pages from storage are machine-written: no white space, flat properties, always the same order. One expression matches a blob in
this form; a page that contains anything else goes through the XML parser as a whole. Times remain text until they are needed,
which is never the case for a blob with a known ETag.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

import msgspec

from libs.common.azure.retry import Transient
from libs.common.azure.storage.api import BlobInfo, ListedBlob

_ROOT: Final = "EnumerationResults"
_OPENING, _CLOSING = "<Blobs>", "</Blobs>"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}
# Any time of this form can be converted: a day past the end of its month counts into the next one.
_TIME = (
    rf"[A-Z][a-z]{{2}}, (?:0[1-9]|[12][0-9]|3[01]) (?:{'|'.join(_MONTHS)}) [12][0-9]{{3}} "
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9] GMT"
)
# The start of a property of interest, or of something that must not occur there.
_WANTED = r"Creation-Time>|Last-Modified>|Etag>|Content-Length>|BlobType>|AccessTier>|ResourceType>(?!file<)|Name|Properties"
# Any number of other properties.
_OTHERS = rf"(?:<(?!{_WANTED})(?P<o@>[A-Za-z][\w-]*+)(?: ?/>|>[^<&]*+</(?P=o@)>))*+"


def _blob_pattern() -> re.Pattern[str]:
    """Return the pattern of a blob; its groups are named after the fields of `LazyBlob`."""
    start = (
        r"<Blob><Name>(?P<name>[^<&>\x00-\x1f\ufffe\uffff]++)</Name><Properties>",
        rf"(?:<Creation-Time>(?P<created_text>{_TIME})</Creation-Time>)?+",
        rf"<Last-Modified>(?P<modified_text>{_TIME})</Last-Modified>",
        r'<Etag>"?+(?P<etag>[^<&>"\x00-\x20]++)"?+</Etag>',
    )
    parts = (
        "".join(start),
        r"<Content-Length>(?P<size_text>[0-9]{1,18})</Content-Length>",
        r"(?:<BlobType>(?P<type_text>[A-Za-z]++)</BlobType>)?+",
        r"(?:<AccessTier>(?P<tier>[A-Za-z0-9]++)</AccessTier>)?+",
        r"</Properties>",
        r"</Blob>",
    )
    others = [_OTHERS.replace("@", str(index)) for index in range(len(parts) - 1)]
    return re.compile("".join(part + other for part, other in zip(parts, [*others, ""], strict=True)))


_BLOB = _blob_pattern()
_FIELDS: Final = ("name", "etag", "size_text", "modified_text", "created_text", "type_text", "tier")
_VALUES: Final = tuple(_BLOB.groupindex[name] for name in _FIELDS)
_DECLARATION = re.compile(r"""\ufeff?(?:<\?xml version=["']1\.0["'](?: encoding=["'](?i:utf-8)["'])?[^?<>]*\?>)?""")


class LazyBlob(msgspec.Struct, frozen=True, gc=False):
    """A `ListedBlob` whose numbers and times are converted on access."""

    as_of: datetime | None
    name: str
    etag: str
    size_text: str
    modified_text: str
    created_text: str | None
    type_text: str | None
    tier: str | None

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.size_text)

    @property
    def blob_type(self) -> str:
        """BlockBlob, AppendBlob or PageBlob."""
        return self.type_text or "BlockBlob"

    @property
    def last_modified(self) -> datetime:
        """Time of the last write."""
        return _told(self.modified_text)

    @property
    def creation_time(self) -> datetime | None:
        """Time of creation, if storage reports it."""
        return _told(self.created_text) if self.created_text else None

    @property
    def archived(self) -> bool:
        """Whether it is in the archive tier."""
        return self.tier == "Archive"


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Some blobs in the order of the listing, and the marker of the next page; empty if there is none."""

    blobs: list[ListedBlob]
    marker: str


def read_page(body: bytes, as_of: datetime | None) -> ListingPage:
    """Read a page that storage produced at `as_of`.

    Raises:
        Transient, KeyError, ValueError: if it is not a listing, or something in it is missing or malformed.
    """
    return _read_lean(body, as_of) or _read_tree(parse_xml(body, _ROOT), as_of)


def read_directories(body: bytes) -> tuple[list[str], str]:
    """Read the directories of a page, and the marker of the next one.

    Raises:
        Transient: if it is not a listing.
    """
    page = parse_xml(body, _ROOT)
    return [_name(element) for element in page.iterfind("Blobs/BlobPrefix")], page.findtext("NextMarker") or ""


def parse_xml(body: bytes, root: str) -> ET.Element:
    """Parse a response whose outermost element must be `root`.

    Raises:
        Transient: if it is anything else.
    """
    try:
        element = ET.fromstring(body)  # noqa: S314 - from the account that is read anyway; expat refuses entity bombs
    except ET.ParseError as error:
        raise Transient(f"storage answered something that is not XML: {error}") from error
    if element.tag != root:  # a page from a proxy in between would look like an empty list
        raise Transient(f"storage answered {element.tag[:100]!r} instead of {root!r}")
    return element


def _read_lean(body: bytes, as_of: datetime | None) -> ListingPage | None:
    """Read a page in the form that storage writes; None if it has any other form."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    begin, end = text.find(_OPENING) + len(_OPENING), text.rfind(_CLOSING)
    declaration = _DECLARATION.match(text)
    if begin < len(_OPENING) or end < begin or declaration is None or "<!" in text:
        return None
    blobs: list[ListedBlob] = []
    place = begin
    for found in _BLOB.finditer(text, begin, end):
        if found.start() != place:
            return None
        place = found.end()
        blobs.append(LazyBlob(as_of, *found.group(*_VALUES)))
    if place != end:
        return None
    frame = parse_xml((text[declaration.end() : begin] + text[end:]).encode(), _ROOT)
    if [child.tag for child in frame].count("Blobs") != 1:
        return None
    return ListingPage(blobs, frame.findtext("NextMarker") or "")


def _read_tree(page: ET.Element, as_of: datetime | None) -> ListingPage:
    blobs: list[ListedBlob] = []
    for element in page.iterfind("Blobs/Blob"):
        properties = element.find("Properties")
        if properties is not None and properties.findtext("ResourceType") != "directory":
            blobs.append(_from_tree(_name(element), {p.tag: p.text or "" for p in properties}, as_of))
    return ListingPage(blobs, page.findtext("NextMarker") or "")


def _from_tree(name: str, properties: Mapping[str, str], as_of: datetime | None) -> ListedBlob:
    created = properties.get("Creation-Time")
    return BlobInfo(
        name=name,
        etag=properties["Etag"].strip('"'),
        size=int(properties["Content-Length"]),
        blob_type=properties.get("BlobType") or "BlockBlob",
        last_modified=parsedate_to_datetime(properties["Last-Modified"]),
        creation_time=parsedate_to_datetime(created) if created else None,
        archived=properties.get("AccessTier") == "Archive",
        as_of=as_of,
    )


def _name(element: ET.Element) -> str:
    """Read a name; one that XML cannot express is percent-encoded and marked as such."""
    name = element.find("Name")
    text = "" if name is None else name.text or ""
    return unquote(text) if name is not None and name.get("Encoded") == "true" else text


def _told(text: str) -> datetime:
    """Read a time such as ``Fri, 01 May 2026 12:00:00 GMT``, which `_TIME` has matched."""
    first = datetime(
        int(text[12:16]), _MONTH_NUMBERS[text[8:11]], 1, int(text[17:19]), int(text[20:22]), int(text[23:25]), tzinfo=UTC
    )
    return first + timedelta(days=int(text[5:7]) - 1)
