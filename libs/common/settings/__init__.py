"""Settings: a YAML file overridden by environment variables, one module per group. `load_settings` is the only entry point."""

from libs.common.settings.loader import Settings, load_settings, load_unread, settings_file
from libs.common.settings.masking import masked, masked_options

__all__ = ["Settings", "load_settings", "load_unread", "masked", "masked_options", "settings_file"]
