"""The ``http`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="batches of rows sent to a web service (webhook)",
    sink="services.sinks.kinds.http.sink:HttpSink",
    settings="services.sinks.kinds.http.sink:HttpSinkSettings",
    promises=(Promise.AT_LEAST_ONCE,),
    extra="http",
    library="urllib3",
    example="""
hosts: ["https://hooks.example"]
path: /flows
bearer_token_file: /run/secrets/hook
""",
)
