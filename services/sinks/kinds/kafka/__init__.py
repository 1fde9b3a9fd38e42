"""The ``kafka`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one record per row in topics of the same or another Kafka",
    sink="services.sinks.kinds.kafka.sink:KafkaSink",
    settings="services.sinks.kinds.kafka.sink:KafkaSinkSettings",
    promises=(Promise.EFFECTIVELY_ONCE, Promise.AT_LEAST_ONCE),
    example="""
topic: rows.flows
cluster: # leave it out for the pipeline's own Kafka
  bootstrap_servers: kafka-2:9093
  security_protocol: SASL_SSL
  sasl_mechanism: SCRAM-SHA-512
  sasl_username: blobtide
  sasl_password_file: /run/secrets/kafka-2
""",
)
