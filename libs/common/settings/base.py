"""What every settings group is: frozen, and refusing what it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """A group of settings. Unknown names are refused; values do not change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def listed(value: object) -> object:
    """Return text as the list that its commas make of it, anything else as it is; for validators before that of the type."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
