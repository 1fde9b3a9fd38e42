"""Import saved objects into Kibana or OpenSearch Dashboards, whose API is the same: ``POST /api/saved_objects/_import``.

Each requires a header of its own against requests from other web pages; both are sent. Sources: "Import saved objects" in the
API reference of Kibana; the documentation of OpenSearch Dashboards, which has the API of Kibana 7.10.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from urllib3 import encode_multipart_formdata

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.client import Cluster, HttpClient, Request
from libs.common.security.redaction import excerpt

_PATH: Final = "/api/saved_objects/_import?overwrite=true"
_OWN_PAGES_ONLY: Final = {"kbn-xsrf": "true", "osd-xsrf": "true"}
_FORM: Final = "https://dashboards:5601, or https://kibana:5601/s/SPACE for a space"
_DENIED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def import_objects(server: Cluster, content: bytes) -> int:
    """Import saved objects, replacing those with the same ids, and return how many there are.

    Raises:
        ServerUnreachable: if the server does not respond, or is not ready.
        ConfigError: if it denies the sign-in or the import, refuses an object, or is something else.
    """
    (address,) = server.addresses
    body, kind = encode_multipart_formdata({"file": ("blobtide.ndjson", content, "application/x-ndjson")})
    client = HttpClient(server)
    try:
        answer = client.send(Request("POST", _PATH, body, {**_OWN_PAGES_ONLY, "Content-Type": kind}))
    except Retry as error:
        raise ServerUnreachable(f"{error}; is the server running, and is the sink's dashboards_url correct?") from error
    finally:
        client.close()
    match answer.status:
        case HTTPStatus.OK:
            return _imported(address, answer.body)
        case status if status in _DENIED:
            raise ConfigError(
                f"{address} answered {status}: the sink's user may not sign in there, or not import saved objects"
            )
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise ServerUnreachable(f"{address} answered {status}; it is not ready: {excerpt(answer.body)}")
        case status:
            said = f"{address} answered {status}: {excerpt(answer.body)}"
            raise ConfigError(f"{said}; is dashboards_url that of Kibana or OpenSearch Dashboards ({_FORM})?")


def _imported(address: str, body: bytes) -> int:
    try:
        found: Any = json.loads(body)
        is_done, count, errors = found["success"], int(found["successCount"]), found.get("errors", [])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{address} does not answer as Kibana or OpenSearch Dashboards; is it one ({_FORM})?") from error
    if is_done is not True:
        raise ConfigError(f"{address} refused a part of the dashboard: {excerpt(json.dumps(errors).encode())}")
    return count
