"""The ``mqtt`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one MQTT message per row",
    sink="services.sinks.kinds.mqtt.sink:MqttSink",
    settings="services.sinks.kinds.mqtt.sink:MqttSettings",
    promises=(Promise.AT_LEAST_ONCE,),
    extra="mqtt",
    library="paho",
    example="""
url: mqtts://broker:8883
username: blobtide
password_file: /run/secrets/mqtt
topic: flows/{action}
""",
)
