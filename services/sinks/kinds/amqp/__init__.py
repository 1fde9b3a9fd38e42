"""The ``amqp`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one AMQP 0-9-1 message per row in an exchange of RabbitMQ",
    sink="services.sinks.kinds.amqp.sink:AmqpSink",
    settings="services.sinks.kinds.amqp.settings:AmqpSettings",
    promises=(Promise.AT_LEAST_ONCE,),
    extra="amqp",
    library="pika",
    example="""
urls: ["amqps://rabbitmq:5671"]
vhost: flows
username: blobtide
password_file: /run/secrets/rabbitmq
# Bind queues to this exchange, which sink-setup makes: flowlog.nsg, flowlog.vnet, or # for all.
exchange: flowlogs
""",
)
