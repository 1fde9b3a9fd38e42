"""Every exception blobtide raises on purpose.

::

    BlobtideError
    ├── ConfigError          the operator's settings are wrong; says which and what to do
    ├── ServerUnreachable    Kafka, storage or a destination does not answer at start
    ├── Retry                the world is at fault: do the same again, later
    ├── DeadLetterLimit      too much looks bad: stop instead of draining a topic
    └── CodecError           bytes that are not what they claim to be

The command line prints the message of a `BlobtideError` as one line and exits with `exit_code`; anything else is a bug and
keeps its traceback.
"""

from __future__ import annotations


class BlobtideError(Exception):
    """Root of all errors that blobtide raises on purpose."""

    exit_code = 1


class ConfigError(BlobtideError):
    """A setting is missing, unknown or contradictory."""

    exit_code = 2


class ServerUnreachable(BlobtideError):
    """A server that must be there at start does not answer."""

    exit_code = 3


class DeadLetterLimit(BlobtideError):
    """More records were dead-lettered than the configured limit allows; the service stops and commits nothing."""

    exit_code = 4


class CodecError(BlobtideError):
    """Bytes are not of the format or version they claim."""


class Retry(BlobtideError):
    """Do the same again after `after` seconds; nothing is wrong with the data.

    `kind` is of a bounded set and becomes a metric label: "unreachable", or what the destination calls its trouble.
    """

    def __init__(self, reason: str, *, after: float = 1.0, kind: str = "unreachable") -> None:
        super().__init__(reason)
        self.after = after
        self.kind = kind
