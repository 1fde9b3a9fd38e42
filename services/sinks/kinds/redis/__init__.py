"""The ``redis`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="rows in Redis streams or keys, or as pub/sub messages",
    sink="services.sinks.kinds.redis.sink:RedisSink",
    settings="services.sinks.kinds.redis.sink:RedisSettings",
    promises=(Promise.EFFECTIVELY_ONCE, Promise.AT_LEAST_ONCE, Promise.TO_WHO_IS_THERE),
    extra="redis",
    library="redis",
    example="""
url: rediss://cache:6380/0
username: blobtide
password_file: /run/secrets/redis
ttl_seconds: 86400
""",
)
