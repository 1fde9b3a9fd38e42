"""The exceptions that blobtide raises on purpose.

::

    BlobtideError
    ├── ConfigError          the operator's settings are wrong; says which ones and what to do
    ├── ServerUnreachable    a required server does not respond
    ├── Retry                the world is at fault: repeat the same work later
    ├── DeadLetterLimit      too much looks bad: stop instead of draining a topic
    └── CodecError           bytes are not what they claim to be

Modules derive further classes from these. The command line prints the message of a `BlobtideError` as one line and exits with
its `exit_code`; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations


class BlobtideError(Exception):
    """Root of all errors that blobtide raises on purpose."""

    exit_code = 1


class ConfigError(BlobtideError):
    """A setting is missing, unknown or contradictory."""

    exit_code = 2


class ServerUnreachable(BlobtideError):
    """A required server does not respond."""

    exit_code = 3


class DeadLetterLimit(BlobtideError):
    """More records were dead-lettered than the configured limit allows; the service stops and commits nothing."""

    exit_code = 4


class CodecError(BlobtideError):
    """Bytes do not have the format or version that they claim."""


class Retry(BlobtideError):
    """Repeat the same work after `after` seconds; nothing is wrong with the data.

    `kind` comes from a bounded set and becomes a metric label: "unreachable", or the destination's own name for the problem.
    """

    def __init__(self, reason: str, *, after: float = 1.0, kind: str = "unreachable") -> None:
        super().__init__(reason)
        self.after = after
        self.kind = kind
