"""A broker as deploy/compose.secure.yaml has it, with another door for tokens: TLS, logins, an authorizer that is on."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import yaml

from libs.common.settings.kafka import KafkaSettings, SaslMechanism, SecurityProtocol
from libs.local.kafka import LocalKafka
from libs.local.ports import LOOPBACK, free_port
from libs.local.process import Launch

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
USERS: Final = (
    "topics",
    "blob-monitor",
    "ingest",
    "parser",
    "aggregator",
    "collector",
    "recorder",
    "sink-file",
    "tail",
    "collect",
    "quarantine",
    "nobody",
)
AUDIENCE: Final = "blobtide-kafka"
_DOORS: Final = """
listeners=CLIENTS://{host}:{clients},ADMIN://{host}:{admin},TOKENS://{host}:{tokens},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENTS://{host}:{clients},ADMIN://{host}:{admin},TOKENS://{host}:{tokens}
listener.security.protocol.map=CLIENTS:SASL_SSL,ADMIN:SSL,TOKENS:SASL_SSL,CONTROLLER:SSL
listener.name.tokens.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.tokens.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.tokens.oauthbearer.sasl.server.callback.handler.class=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.tokens.sasl.oauthbearer.jwks.endpoint.url={jwks}
listener.name.tokens.sasl.oauthbearer.expected.audience={audience}
"""
_MADE_HERE: Final = ("listeners", "advertised.listeners", "listener.security.protocol.map")


def access_script() -> ModuleType:
    """Return deploy/compose/secure/access.py as a module."""
    spec = importlib.util.spec_from_file_location("access", DEPLOY / "compose" / "secure" / "access.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def overlay_properties(secrets: Path) -> dict[str, str]:
    """Return what the overlay's variables make of the broker, as its image reads them, with the secrets elsewhere."""
    environment = yaml.safe_load((DEPLOY / "compose.secure.yaml").read_text())["services"]["kafka"]["environment"]
    found = {}
    for name, value in environment.items():
        words = re.split(r"(?<!_)_(?!_)", name.removeprefix("KAFKA_").lower())
        found[".".join(words).replace("___", "-")] = value.replace("$$", "$").replace("/secrets", str(secrets))
    return {name: value for name, value in found.items() if name not in _MADE_HERE}


class SecuredKafka(LocalKafka):
    """Certificates and passwords are in `secrets`, made by the overlay's script; `jwks` is where the keys of tokens are."""

    def __init__(self, data_dir: Path, jwks: str) -> None:
        super().__init__(data_dir)
        self.secrets = data_dir / "secrets"
        self._jwks = jwks

    @cached_property
    def admin_port(self) -> int:
        """Where certificates are asked for."""
        return free_port()

    @cached_property
    def token_port(self) -> int:
        """Where tokens are asked for."""
        return free_port()

    def _write_properties(self) -> Path:
        access_script().certificates(self.secrets, USERS)
        file = super()._write_properties()
        doors = _DOORS.format(
            host=LOOPBACK, clients=self.port, admin=self.admin_port, tokens=self.token_port,
            controller=self._controller_port, jwks=self._jwks, audience=AUDIENCE,
        )  # fmt: skip
        overlay = "".join(f"{name}={value}\n" for name, value in overlay_properties(self.secrets / "kafka").items())
        file.write_text(f"{file.read_text(encoding='utf-8')}\n{overlay}{doors}", encoding="utf-8")
        return file

    def _launch(self) -> Launch:
        launch = super()._launch()
        java, *rest = launch.argv
        return replace(launch, argv=(java, f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._jwks}", *rest))

    def connection(self, user: str) -> dict[str, Any]:
        """Return the settings with which `user` signs in, as the overlay has them."""
        return {
            "bootstrap_servers": f"{LOOPBACK}:{self.port}",
            "security_protocol": SecurityProtocol.SASL_SSL.value,
            "sasl_mechanism": SaslMechanism.SCRAM_SHA_512.value,
            "sasl_username": user,
            "sasl_password_file": str(self.secrets / user / "password"),
            "ssl_ca_location": str(self.secrets / user / "ca.pem"),
        }

    def settings(self, user: str, **more: Any) -> KafkaSettings:
        """Return `connection` as settings."""
        return KafkaSettings.model_validate({**self.connection(user), **more})

    def with_token(self, **oauth: Any) -> KafkaSettings:
        """Return the settings of who signs in with a token."""
        return KafkaSettings.model_validate(
            {
                "bootstrap_servers": f"{LOOPBACK}:{self.token_port}",
                "security_protocol": SecurityProtocol.SASL_SSL,
                "sasl_mechanism": SaslMechanism.OAUTHBEARER,
                "oauth": oauth,
                "ssl_ca_location": self.secrets / "kafka" / "ca.pem",
            }
        )

    def administrator(self) -> Mapping[str, str]:
        """Return the variables of the overlay's service that makes users, for this broker."""
        environment = yaml.safe_load((DEPLOY / "compose.secure.yaml").read_text())["services"]["access"]["environment"]
        own = {name: value.replace("/secrets", str(self.secrets / "access")) for name, value in environment.items()}
        return {**own, "BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.admin_port}"}

    def as_administrator(self) -> KafkaSettings:
        """Return the settings with which users are made and rights are given."""
        own = self.secrets / "access"
        return KafkaSettings(
            bootstrap_servers=f"{LOOPBACK}:{self.admin_port}",
            security_protocol=SecurityProtocol.SSL,
            ssl_ca_location=own / "ca.pem",
            ssl_certificate_location=own / "admin.pem",
            ssl_key_location=own / "admin.key",
        )
