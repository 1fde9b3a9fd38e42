"""The names of columns of logs and rollups in OpenTelemetry: attributes of the semantic conventions, where one exists."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.types.spans import SPANS

OWN: Final = "blobtide."
"""The beginning of attributes that the conventions do not have."""

_OF_ANY: Final = {
    "client_address": "client.address",
    "stream": "log.iostream",
    "service": "service.name",
    "environment": "deployment.environment.name",
    "namespace": "k8s.namespace.name",
    "pod": "k8s.pod.name",
    "pod_ip": "k8s.pod.ip",
    "container": "k8s.container.name",
    "container_id": "container.id",
    "host": "host.name",
    "resource_id": "cloud.resource_id",
}
_OF_APPLICATION: Final = {
    "logger": "otel.scope.name",
    "thread": "thread.name",
    "thread_id": "thread.id",
    "exception_type": "exception.type",
    "exception_message": "exception.message",
    "exception_stacktrace": "exception.stacktrace",
}
_OF_REQUEST: Final = {
    "http_request_method": "http.request.method",
    "url_path": "url.path",
    "url_query": "url.query",
    "network_protocol_version": "network.protocol.version",
    "http_response_status_code": "http.response.status_code",
    "http_response_body_size": "http.response.body.size",
    "http_response_size": "http.response.size",
    "http_request_size": "http.request.size",
    "remote_user": "user.name",
    "user_agent": "user_agent.original",
    "server_address": "server.address",
    "server_port": "server.port",
}
_OF_ROLLUP: Final = {
    "local_ip": "network.local.address",
    "remote_ip": "network.peer.address",
    "src_ip": "source.address",
    "dst_ip": "destination.address",
    "dst_port": "destination.port",
    "rule": "security_rule.name",
    "acl_id": "security_rule.ruleset.name",
    "target_id": "cloud.resource_id",
}

_ATTRIBUTES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        APPLICATION.name: {**_OF_ANY, **_OF_APPLICATION},
        HTTP.name: {**_OF_ANY, **_OF_REQUEST},
        PROXY.name: {**_OF_ANY, **_OF_REQUEST},
        SPANS.name: {**_OF_ANY, **_OF_REQUEST},
        ROLLUPS.name: _OF_ROLLUP,
    }
)


def attribute_of(row_type: str, column: str) -> str:
    """Return the name of the attribute that holds a column of a row type (except flows)."""
    return _ATTRIBUTES.get(row_type, {}).get(column, f"{OWN}{column}")
