"""The ``zeromq`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one ZeroMQ message per row, by DEALER, PUSH or PUB",
    sink="services.sinks.kinds.zeromq.sink:ZeroMqSink",
    settings="services.sinks.kinds.zeromq.settings:ZeroMqSettings",
    promises=(Promise.AT_LEAST_ONCE, Promise.TO_WHO_IS_THERE),
    extra="zeromq",
    library="zmq",
    example="""
endpoints: tcp://collector:5555
topic: flows/{action}
curve_key_file: /run/secrets/sink.key_secret
curve_server_key_file: /etc/blobtide/collector.key
""",
)
