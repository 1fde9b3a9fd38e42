"""What can go wrong with a local server."""

from __future__ import annotations

from libs.common.errors import BlobtideError, ServerUnreachable


class ServerMissing(BlobtideError):
    """A program or package that a local server needs is not here and cannot be fetched; says what to install."""

    exit_code = 3


class ServerFailed(ServerUnreachable):
    """A local server ended or did not become ready in time; shows the end of its log."""


class ArtifactsDiffer(BlobtideError):
    """What was fetched is not what the repository records."""
