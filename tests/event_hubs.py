"""A Kafka that stands in for Event Hubs: TLS, and a login whose user is $ConnectionString."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Final

from libs.local.ports import LOOPBACK, free_port
from tests.certificates import server_tls
from tests.kafka_target import TOPIC, TargetKafka

KEY: Final = "c2VjcmV0LWtleS1vZi10aGUtbmFtZXNwYWNl="
STRING: Final = f"Endpoint=sb://{LOOPBACK}/;SharedAccessKeyName=send;SharedAccessKey={KEY}"
HUB: Final = TOPIC
HUB_STRING: Final = f"{STRING};EntityPath={HUB}"
DENIED: Final = "denied"
"""No transactional id may begin with this."""

_DOORS: Final = """
listeners=PLAINTEXT://{host}:{plain},HUBS://{host}:{hubs},EMULATED://{host}:{emulated},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{plain},HUBS://{host}:{hubs},EMULATED://{host}:{emulated}
listener.security.protocol.map=\
CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,HUBS:SASL_SSL,EMULATED:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.hubs.plain.sasl.jaas.config={login} user_$ConnectionString="{string}";
listener.name.emulated.plain.sasl.jaas.config={login} user_$ConnectionString="{hub_string}";
listener.name.hubs.ssl.keystore.type=PEM
listener.name.hubs.ssl.keystore.location={keystore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
"""
_LOGIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class LocalEventHubs(TargetKafka):
    """A namespace with one event hub."""

    name = "event_hubs"

    @cached_property
    def _hubs_port(self) -> int:
        return free_port()

    @cached_property
    def _emulated_port(self) -> int:
        return free_port()

    @property
    def authority(self) -> Path:
        """The file with the authority that signed its certificate."""
        return self.data_dir / "tls" / "ca.pem"

    def connection(self) -> dict[str, Any]:
        """Return the options with which to sign in, as in Azure."""
        own = {"connection_string": STRING, "ssl_ca_location": str(self.authority)}
        return {"namespace": f"{LOOPBACK}:{self._hubs_port}", **own}

    def emulated(self) -> dict[str, Any]:
        """Return the options with which to sign in at an emulator: without TLS, to one event hub."""
        own = {"connection_string": HUB_STRING, "tls": False, "allow_plaintext_credentials": True}
        return {"namespace": f"{LOOPBACK}:{self._emulated_port}", **own}

    def _write_properties(self) -> Path:
        file = super()._write_properties()
        doors = _DOORS.format(
            host=LOOPBACK, plain=self.port, hubs=self._hubs_port, emulated=self._emulated_port,
            controller=self._controller_port, login=_LOGIN, string=STRING, hub_string=HUB_STRING, keystore=self._keystore(),
        )  # fmt: skip
        file.write_text(f"{file.read_text(encoding='utf-8')}\n{doors}", encoding="utf-8")
        return file

    def _keystore(self) -> Path:
        directory = self.data_dir.resolve() / "tls"
        keystore = directory / "keystore.pem"
        if not keystore.exists():
            directory.mkdir(exist_ok=True)
            tls = server_tls(directory)
            keystore.write_bytes(tls.key.read_bytes() + tls.certificate.read_bytes())
        return keystore
