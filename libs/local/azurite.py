"""A local Azurite, the Azure Storage emulator: its blob and queue services, from npm, on Node.js 20 or newer."""

from __future__ import annotations

from typing import Final

from libs.local.node import find_node
from libs.local.npm import packages
from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer

# The emulator's account and key are documented and the same everywhere; they protect nothing.
ACCOUNT: Final = "devstoreaccount1"
ACCOUNT_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class LocalAzurite(LocalServer):
    """One storage account with blobs.

    `stop` keeps everything. `kill` may lose writes of the last five seconds, because the emulator saves its metadata only that
    often: unlike Azure, it can lose acknowledged writes.
    """

    name = "azurite"

    @classmethod
    def install(cls) -> None:
        """Fetch the npm packages and check that Node.js is installed."""
        packages("azurite", find_node())

    @property
    def blob_endpoint(self) -> str:
        """URL of the account."""
        return f"http://{LOOPBACK}:{self.port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """Connection string of the account, for the SDK."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={self.blob_endpoint};"
        )

    def _launch(self) -> Launch:
        where = ("--blobHost", LOOPBACK, "--blobPort", str(self.port), "--location", str(self.data_dir))
        return Launch(_command("blob", where), ready=lambda: accepts(self.port))


class LocalAzuriteQueues(LocalServer):
    """The queues of the same account, in a separate process that is started only when needed."""

    name = "azurite-queues"

    @classmethod
    def install(cls) -> None:
        """Fetch the npm packages and check that Node.js is installed."""
        LocalAzurite.install()

    @property
    def queue_endpoint(self) -> str:
        """URL of the account's queue service."""
        return f"http://{LOOPBACK}:{self.port}/{ACCOUNT}"

    def _launch(self) -> Launch:
        where = ("--queueHost", LOOPBACK, "--queuePort", str(self.port), "--location", str(self.data_dir))
        return Launch(_command("queue", where), ready=lambda: accepts(self.port))


def _command(service: str, where: tuple[str, ...]) -> tuple[str, ...]:
    node = find_node()
    script = packages("azurite", node) / "node_modules" / "azurite" / "dist" / "src" / service / "main.js"
    # A current SDK usually has a newer API version than the emulator; the other options keep it quiet and without telemetry.
    return str(node.executable), str(script), *where, "--skipApiVersionCheck", "--disableTelemetry", "--silent"
