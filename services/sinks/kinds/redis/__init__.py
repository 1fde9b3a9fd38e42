"""The ``redis`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="rows in Redis streams or keys",
    sink="services.sinks.kinds.redis.sink:RedisSink",
    settings="services.sinks.kinds.redis.sink:RedisSettings",
    promises=(Promise.EFFECTIVELY_ONCE, Promise.AT_LEAST_ONCE),
    extra="redis",
    library="redis",
)
