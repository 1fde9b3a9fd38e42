"""Settings: one YAML file, environment variables over it, one group a file. `load_settings` is the only way in."""

from libs.common.settings.loader import Settings, load_settings, settings_file
from libs.common.settings.masking import masked, masked_options

__all__ = ["Settings", "load_settings", "masked", "masked_options", "settings_file"]
