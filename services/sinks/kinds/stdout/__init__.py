"""The ``stdout`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one line per row on standard output",
    sink="services.sinks.kinds.stdout.sink:StdoutSink",
    settings="services.sinks.kinds.stdout.sink:StdoutSettings",
    promises=(Promise.AT_LEAST_ONCE,),
    example="format: json",
)
