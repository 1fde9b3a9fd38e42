"""The ``fluent`` sink, for Fluentd, Fluent Bit and whatever else speaks the forward protocol."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="records for Fluentd or Fluent Bit, by the forward protocol",
    sink="services.sinks.kinds.fluent.sink:FluentSink",
    settings="services.sinks.kinds.fluent.settings:FluentSettings",
    promises=(Promise.AT_LEAST_ONCE,),
    extra="fluent",
    library="msgpack",
    example="""
hosts: ["tls://fluentd-1:24224", "tls://fluentd-2:24224"]
shared_key_file: /run/secrets/fluent
tag: "blobtide.{rows}.{action}"
""",
)
