"""Headers that an operator adds to every request, and API keys in a header: settings for destinations reached over HTTP."""

from __future__ import annotations

from libs.common.settings.http_login import HttpHeaderSettings
from services.sinks.frame.http import HttpTokenSettings


class HeaderSettings(HttpHeaderSettings, HttpTokenSettings):
    """User and password, a bearer token or an API key, and more headers."""
