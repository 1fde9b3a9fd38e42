"""A server that answers listings like blob storage, and nothing else: ``python -m benchmarks.lister PORT FORM COUNT``.

It runs in a separate process, so that its work is not counted. In form *hourly*, COUNT resources have one blob each for the
current hour, which changes every minute; in form *flat*, there are COUNT blobs that never change.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

_PAGE: Final = 2_000
_WRITTEN: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)  # long enough ago for a monitor to close it
_BLOB: Final = (
    "<Blob><Name>{}</Name><Properties><Creation-Time>{}</Creation-Time><Last-Modified>{}</Last-Modified><Etag>0x8DE{:012X}</Etag>"
    "<Content-Length>{}</Content-Length><Content-Type>application/octet-stream</Content-Type><Content-Encoding />"
    "<Content-Language /><Content-CRC64 /><Content-MD5 /><Cache-Control /><Content-Disposition /><BlobType>BlockBlob</BlobType>"
    "<AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus>"
    "<LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties><OrMetadata /></Blob>"
)


def resource(number: int) -> str:
    """Return the directory of a resource."""
    return f"flowLogResourceID_00000000-0000-0000-0000-000000000000_RG_FLOWLOG{number:05}/"


def blob_name(number: int, hour: datetime) -> str:
    """Return the name of a resource's blob for an hour."""
    return f"{resource(number)}{hour:y=%Y/m=%m/d=%d/h=%H}/m=00/macAddress=000D3A{number:06X}/PT1H.json"


def _page(parts: Iterator[str], marker: str = "") -> bytes:
    inner = "".join(parts)
    start = '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://127.0.0.1/" ContainerName="c">'
    return f"{start}<Blobs>{inner}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>".encode()


def _directories(names: Iterator[str]) -> bytes:
    return _page(f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in names)


def hourly(prefix: str, delimiter: str, count: int) -> bytes:
    """Return the listing of a prefix among `count` resources."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    if not prefix:
        return _directories(resource(number) for number in range(count))
    if delimiter:
        return _directories(iter([f"{prefix}y={now:%Y}/"]))
    number = int(prefix.split("/", 1)[0][-5:])
    name = blob_name(number, now)
    when, version = format_datetime(now, usegmt=True), int(now.timestamp())
    return _page(_BLOB.format(one, when, when, version, 1_000) for one in (name,) if one.startswith(prefix))


@cache
def flat(marker: str, count: int) -> bytes:
    """Return a page of `count` blobs."""
    begin = int(marker or 0)
    end = min(begin + _PAGE, count)
    when = format_datetime(_WRITTEN, usegmt=True)
    blobs = (_BLOB.format(f"logs/2026/{number:08}/PT1H.json", when, when, number, 1_000) for number in range(begin, end))
    return _page(blobs, str(end) if end < count else "")


class _Lister(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    form, count = "hourly", 0
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self.form == "hourly":
            body = hourly(query.get("prefix", ""), query.get("delimiter", ""), self.count)
        else:
            body = flat(query.get("marker", ""), self.count)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log requests."""


def main() -> None:
    """Serve until killed."""
    port, _Lister.form, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    _Lister.count = count
    ThreadingHTTPServer(("127.0.0.1", port), _Lister).serve_forever()


if __name__ == "__main__":
    main()
