"""Errors of local servers."""

from __future__ import annotations

from libs.common.errors import BlobtideError, ServerUnreachable


class ServerMissing(BlobtideError):
    """A program or package that a local server needs is missing and cannot be fetched; the message says what to install."""

    exit_code = 3


class ServerFailed(ServerUnreachable):
    """A local server ended or did not become ready in time; the message shows the end of its log."""


class ArtifactsDiffer(BlobtideError):
    """Fetched files differ from those recorded in the repository."""
