"""The ``kafka`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one record per row in topics of the same or another Kafka",
    sink="services.sinks.kinds.kafka.sink:KafkaSink",
    settings="services.sinks.kinds.kafka.sink:KafkaSinkSettings",
    promises=(Promise.EFFECTIVELY_ONCE, Promise.AT_LEAST_ONCE),
)
