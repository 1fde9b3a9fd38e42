"""Sign-in with user and password: one group of settings for whatever needs it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from libs.common.settings.base import Group
from libs.common.settings.secrets import read_secret


class LoginSettings(Group):
    """A user with a password, or neither."""

    has_default_user: ClassVar[bool] = False
    """Whether a password alone is enough, since the destination has a user that needs no name."""

    users_need_password: ClassVar[bool] = True
    """Whether a name alone is not enough; it is where users also sign in by certificate or as users of the machine."""

    username: str | None = Field(default=None, description="User name; requires a password.")
    password: SecretStr | None = Field(default=None, description="Password.")
    password_file: Path | None = Field(default=None, description="File that holds the password.")

    @model_validator(mode="after")
    def _user_and_password(self) -> Self:
        has_password = self.password is not None or self.password_file is not None
        has_user = self.username is not None
        is_enough = self.has_default_user if has_password else not self.users_need_password
        if has_user != has_password and not is_enough:
            raise ValueError("username and password (or password_file) must be given together")
        return self

    def read_password(self) -> str | None:
        """Return the password, or None if none is set. Raises `ConfigError`."""
        return read_secret("password", self.password, self.password_file)
