"""The topics of each stream: where its segments are, and where its rows go."""

from __future__ import annotations

from collections.abc import Collection

from libs.common.messages.events import Stream
from libs.common.settings.kafka import TopicSettings


def raw_topics(topics: TopicSettings) -> dict[Stream, str]:
    """Return the topic for the segments of each stream."""
    return {
        Stream.FLOW_LOGS: topics.raw_flow_logs,
        Stream.APPLICATION_LOGS: topics.raw_application_logs,
        Stream.PROXY_LOGS: topics.raw_proxy_logs,
    }


def row_topics(topics: TopicSettings, stream: Stream) -> dict[str, str]:
    """Return the topics for the rows of a stream, by the names of the row types."""
    if stream is Stream.FLOW_LOGS:
        return {"flows": topics.flows}
    of_logs = {"application": topics.application, "http": topics.http}
    return of_logs | {"proxy": topics.proxy} if stream is Stream.PROXY_LOGS else of_logs


def parsed_topics(topics: TopicSettings, streams: Collection[Stream]) -> tuple[list[str], list[str]]:
    """Return the topics of the segments of some streams, and those of their rows, in the order of `Stream`."""
    chosen = [stream for stream in Stream if stream in streams]
    rows = dict.fromkeys(topic for stream in chosen for topic in row_topics(topics, stream).values())
    return [raw_topics(topics)[stream] for stream in chosen], list(rows)
