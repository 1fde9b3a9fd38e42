"""Messages as AMQP frames: the same bytes that the library makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pika import spec
from pika.frame import Body, Header, Method, decode_frame

from services.sinks.kinds.amqp.frames import Frames, Kind

FRAME_MAX = 4_096
KIND = Kind("application/json", "flows", 1)


def frames() -> Frames:
    """Return an encoder."""
    return Frames(1, FRAME_MAX, "flowlogs", KIND, mandatory=True)


def by_the_library(key: str, message_id: str, seconds: int, body: bytes) -> bytes:
    """Encode a message with the library's own objects."""
    properties = spec.BasicProperties(
        content_type="application/json",
        headers={"schema-version": "1"},
        delivery_mode=2,
        message_id=message_id,
        timestamp=seconds,
        type="flows",
        app_id="blobtide",
    )
    largest = FRAME_MAX - 8
    pieces = [body[at : at + largest] for at in range(0, len(body), largest)]
    objects = [
        Method(1, spec.Basic.Publish(exchange="flowlogs", routing_key=key, mandatory=True)),
        Header(1, len(body), properties),
        *(Body(1, piece) for piece in pieces),
    ]
    return b"".join(one.marshal() for one in objects)


@given(
    st.text(max_size=60),
    st.text(max_size=60),
    st.integers(0, 2**63),
    st.integers(0, 3 * FRAME_MAX),
)
def test_a_message_is_what_the_library_makes_of_it(key: str, message_id: str, seconds: int, size: int) -> None:
    """Method, header with its properties, and body in frames that the server takes."""
    body = bytes(at % 251 for at in range(size))
    encoder = frames()
    for _ in range(2):  # the second time with a known routing key
        assert encoder.of(key, message_id, seconds, body) == by_the_library(key, message_id, seconds, body)


def test_any_number_of_routing_keys_can_be_had() -> None:
    """Methods are remembered for some thousands of routing keys only."""
    encoder = frames()
    for number in range(10_001):
        data = encoder.of(f"key.{number}", "id", 0, b"x")
    _, method = decode_frame(data)
    assert method.method.routing_key == "key.10000"
    assert len(encoder._methods) == 1
