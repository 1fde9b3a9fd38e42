"""What MQTT reason codes mean for a message: whose fault it is.

MQTT 3.1.1 has codes only in the response to a connect; here they appear as their MQTT 5 equivalents (4 "bad user name or
password" is 134). An acknowledgement in 3.1.1 carries no code.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from libs.common.errors import ConfigError, Retry

_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 5.0

# In response to a single message.
_OF_MESSAGE: Final = {
    0x90: "the server does not accept the topic",
    0x99: "the server does not accept the payload in this format",
}
_OF_OPERATOR: Final = {
    0x81: "calls our packets malformed: does it speak MQTT?",
    0x82: "sees an error in the protocol: does it speak the version that is set?",
    0x84: "does not speak this version of MQTT: set version",
    0x85: "does not accept the client id: set another client_id",
    0x86: "does not accept username and password",
    0x87: "does not allow it: the user needs the right to connect and to publish to the topics of this sink",
    0x8A: "has banned this client",
    0x8C: "does not sign in clients by username and password",
    0x8E: "has let in another client with our id: set another client_id",
    0x95: "takes no packets of this size: set max_packet_bytes",
    0x9A: "keeps no retained messages: set retain to false",
    0x9B: "does not take QoS 1: this sink needs a server that does",
    0x9D: "has moved for good: set its new address",
}
_PASSING: Final = {
    0x88: "busy",  # server unavailable
    0x89: "busy",  # server busy
    0x8B: "busy",  # server shutting down
    0x93: "busy",  # receive maximum exceeded
    0x96: "quota",  # message rate too high
    0x97: "quota",  # quota exceeded
    0x9C: "busy",  # use another server
    0x9F: "quota",  # connection rate exceeded
    0xA0: "busy",  # maximum connect time
}


class MqttFault(Enum):
    """Whose fault a failure is."""

    MESSAGE = auto()
    OPERATOR = auto()
    WORLD = auto()  # passes by itself


def fault_of(code: int) -> MqttFault:
    """Return whose fault a reason code (0x80 and above) is; unknown codes count as passing."""
    if code in _OF_MESSAGE:
        return MqttFault.MESSAGE
    return MqttFault.OPERATOR if code in _OF_OPERATOR else MqttFault.WORLD


def refusal(code: int) -> str:
    """Return the reason for refusing a message."""
    return _OF_MESSAGE[code]


def failure(server: str, code: int, name: str) -> Retry | ConfigError:
    """Return the exception for a server's code that does not concern a single message."""
    if fault_of(code) is MqttFault.OPERATOR:
        return ConfigError(f"{server} {_OF_OPERATOR[code]} (reason code {code}, {name})")
    kind = _PASSING.get(code, "server")
    return Retry(f"{server} answers {code}, {name}", after=_LONGER_PAUSE if kind == "quota" else _PAUSE, kind=kind)
