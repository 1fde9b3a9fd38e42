"""The base of every settings group: frozen, and strict about unknown names."""

from __future__ import annotations

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, model_validator

# By the last word of a setting's name: about thirty to a hundred years, so that no clock or timer can overflow.
_LONGEST: Final = {"seconds": 1e9, "minutes": 2e7, "hours": 3e5, "days": 4e4}
_LARGEST: Final = 2.0**53


class Group(BaseModel):
    """A group of settings. Unknown names and implausible numbers are refused; values do not change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    @model_validator(mode="after")
    def _within_reason(self) -> Self:
        for name, value in self:
            most = _LONGEST.get(name.rpartition("_")[2], _LARGEST)
            if isinstance(value, int | float) and abs(value) > most:
                raise ValueError(f"{name} is too large: at most {most:,.0f}")
        return self


def listed(value: object) -> object:
    """Split text at its commas and return anything else unchanged; for validators that run before type validation."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
