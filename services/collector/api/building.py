"""Build the API from the settings."""

from __future__ import annotations

from functools import partial
from typing import Final

from libs.common.http.server.connection import HttpLimits
from libs.common.http.server.server import HttpPlace, HttpServer, server_tls
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.readers.committed import committed_offsets
from libs.common.kafka.readers.compacted import CompactedTable
from libs.common.kafka.readers.lookup import Lookup
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.security.transport import guard_credentials, is_loopback
from libs.common.settings import Settings
from libs.common.settings.collector_api import CollectionApiSettings
from services.collector.api.api import CollectionApi
from services.collector.api.directory import DirectoryParts, RequestDirectory
from services.collector.api.openapi import openapi_document
from services.collector.api.places import REQUEST, STATE
from services.collector.api.site import CollectionSite, SiteParts
from services.collector.api.writer import RequestWriter
from services.collector.requests.defaults import filling_of
from services.collector.requests.schema import MOST_BYTES

_GROUP: Final = "collector.api"
_WRITTEN_BYTES: Final = 8_388_608  # at once


def build_api(settings: Settings, own: CollectionApiSettings, role: str, limits: TopicLimits) -> CollectionApi:
    """Return the API, with `own` settings; nothing listens and nothing is contacted yet. `role`: of the group of collectors.

    Raises:
        ConfigError: the token or the certificate cannot be used, or the token would be sent unencrypted.
    """
    topics, tls = settings.topics, None
    token = own.read_token()
    if own.cert_file is not None and own.key_file is not None:
        tls = server_tls(own.cert_file, own.key_file)
    elif not is_loopback(own.host):
        guard_credentials(_GROUP, [f"{own.host}:{own.port}"], own)
    directory = RequestDirectory(_directory_parts(settings, role))
    spec = PublisherSpec("requests", (topics.collection_requests,), bytes=_WRITTEN_BYTES)
    writer = RequestWriter(Publisher(settings.kafka, spec, limits))
    document, methods = openapi_document(), frozenset(settings.collector.methods)
    filled = filling_of(settings.collector)
    site = CollectionSite(SiteParts(token, directory, writer, topics.collection_requests, methods, document, filled))
    place = HttpPlace(own.host, own.port, _GROUP, tls)
    server = HttpServer(place, site, HttpLimits(body_bytes=MOST_BYTES))
    return CollectionApi(server, directory, writer, "http" if tls is None else "https")


def _directory_parts(settings: Settings, role: str) -> DirectoryParts:
    kafka, topics = settings.kafka, settings.topics

    return DirectoryParts(
        partial(CompactedTable, kafka, topics.collection_requests),
        partial(CompactedTable, kafka, topics.collection_state),
        partial(partition_count, kafka, topics.collection_requests),
        partial(committed_offsets, kafka, role, topics.collection_requests),
        {REQUEST: Lookup(kafka, topics.collection_requests), STATE: Lookup(kafka, topics.collection_state)},
    )
