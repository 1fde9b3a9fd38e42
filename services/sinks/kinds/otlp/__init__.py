"""The ``otlp`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="OpenTelemetry log records over OTLP/HTTP",
    sink="services.sinks.kinds.otlp.sink:OtlpSink",
    settings="services.sinks.kinds.otlp.sink:OtlpSettings",
    promises=(Promise.AT_LEAST_ONCE,),
    extra="otlp",
    library="opentelemetry",
    example="""
hosts: ["https://collector:4318"]
bearer_token_file: /run/secrets/collector
resource: {service.name: flow-logs}
""",
)
