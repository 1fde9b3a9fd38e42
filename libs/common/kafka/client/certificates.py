"""The CAs that this machine trusts, and why a broker's certificate is not trusted, which the Kafka client does not say."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final

from libs.common.settings.kafka import KafkaSettings

_SECONDS: Final = 2.0
_PORT: Final = 9092
_OTHER_NAME: Final = "is for another host name: use a name from the certificate in kafka.bootstrap_servers"
_UNKNOWN: Final = "is not signed by a trusted CA: check kafka.ssl_ca_location"
# OpenSSL's numbers (x509_vfy.h).
_MEANINGS: Final = {
    7: _UNKNOWN,
    9: "is not valid yet: check this machine's clock",
    10: "has expired, or its CA's has: renew it (or check this machine's clock)",
    18: _UNKNOWN,
    19: _UNKNOWN,
    20: _UNKNOWN,
    21: _UNKNOWN,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}


def authorities_here() -> str | None:
    """Return the file or directory with this machine's CA certificates, if it has any."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath


def why_not_trusted(kafka: KafkaSettings) -> str:
    """Connect to bootstrap servers until one presents an untrusted certificate; return why, or an empty string if none does."""
    try:
        context = _context(kafka)
    except OSError:
        return ""  # the Kafka client has reported it
    for address in kafka.bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition("://")[2].rpartition(":")
        name = (host or port).strip("[]")
        try:
            with socket.create_connection((name, int(port) if host else _PORT), _SECONDS) as plain:
                context.wrap_socket(plain, server_hostname=name).close()
        except ssl.SSLCertVerificationError as error:
            meaning = _MEANINGS.get(error.verify_code, f"cannot be verified: {error.verify_message}")
            return f"the certificate of {address.strip()} {meaning}"
        except (OSError, ValueError):
            continue
    return ""


def _context(kafka: KafkaSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities = kafka.ssl_ca_location or kafka.librdkafka.get("ssl.ca.location")
    if authorities is None:
        context.load_default_certs()
    elif Path(authorities).is_dir():
        context.load_verify_locations(capath=authorities)
    else:
        context.load_verify_locations(cafile=authorities)
    return context
