"""The topics of each stream: where its segments are, and where its rows go."""

from __future__ import annotations

from libs.common.messages.events import Stream
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.parser import ParserSettings


def raw_topics(topics: TopicSettings) -> dict[Stream, str]:
    """Return the topic for the segments of each stream."""
    return {
        Stream.FLOW_LOGS: topics.raw_flow_logs,
        Stream.APPLICATION_LOGS: topics.raw_application_logs,
        Stream.PROXY_LOGS: topics.raw_proxy_logs,
    }


def row_topics(topics: TopicSettings, stream: Stream, parser: ParserSettings) -> dict[str, str]:
    """Return the topics for the rows that the parser makes of a stream, by the names of the row types."""
    if stream is Stream.FLOW_LOGS:
        return {"flows": topics.flows}
    of_logs = {"application": topics.application, "http": topics.http}
    if stream is Stream.PROXY_LOGS:
        of_logs["proxy"] = topics.proxy
    return of_logs | {"spans": topics.spans} if parser.logs.spans else of_logs


def parsed_topics(topics: TopicSettings, parser: ParserSettings) -> tuple[list[str], list[str]]:
    """Return the topics of the segments that the parser reads, and those of their rows, in the order of `Stream`."""
    chosen = [stream for stream in Stream if stream in parser.streams]
    rows = dict.fromkeys(topic for stream in chosen for topic in row_topics(topics, stream, parser).values())
    return [raw_topics(topics)[stream] for stream in chosen], list(rows)
