"""The ``eventhub`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one event per row in event hubs of Azure",
    sink="services.sinks.kinds.eventhub.sink:EventHubSink",
    settings="services.sinks.kinds.eventhub.settings:EventHubSettings",
    promises=(Promise.AT_LEAST_ONCE, Promise.EFFECTIVELY_ONCE),
    example="""
# Endpoint=sb://NAMESPACE.servicebus.windows.net/;SharedAccessKeyName=...;SharedAccessKey=...
connection_string_file: /run/secrets/event-hub
topic: flows
""",
)
