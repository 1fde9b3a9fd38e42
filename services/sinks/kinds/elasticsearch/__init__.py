"""The ``elasticsearch`` sink, for Elasticsearch and OpenSearch."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="ECS documents in Elasticsearch or OpenSearch",
    sink="services.sinks.kinds.elasticsearch.sink:ElasticsearchSink",
    settings="services.sinks.kinds.elasticsearch.sink:ElasticsearchSettings",
    promises=(Promise.EFFECTIVELY_ONCE, Promise.AT_LEAST_ONCE),
    extra="elasticsearch",
    library="urllib3",
    example="""
hosts: ["https://search:9200"]
api_key_file: /run/secrets/search
""",
)
