"""The ``elasticsearch`` sink, for Elasticsearch and OpenSearch."""
