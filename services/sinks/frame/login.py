"""Sign-in with user and password: one group of settings for all kinds that need it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from libs.common.settings.base import Group
from libs.common.settings.secrets import read_secret


class LoginSettings(Group):
    """A user with a password, or neither."""

    username: str | None = Field(default=None, description="User name; requires a password.")
    password: SecretStr | None = Field(default=None, description="Password.")
    password_file: Path | None = Field(default=None, description="File that holds the password.")

    @model_validator(mode="after")
    def _user_has_password(self) -> Self:
        if self.username is not None and self.password is None and self.password_file is None:
            raise ValueError("username and password (or password_file) must be given together")
        return self

    def read_password(self) -> str | None:
        """Return the password, or None if none is set. Raises `ConfigError`."""
        return read_secret("password", self.password, self.password_file)
