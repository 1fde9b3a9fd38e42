"""A local OpenSearch: one node from Maven jars, Java 21 or newer.

The jars are arranged as in the product: the server on the class path, HTTP and transport as a module in its home directory.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
from contextlib import closing
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Final

from libs.local.java import find_java
from libs.local.maven import jars
from libs.local.ports import LOOPBACK, free_port
from libs.local.process import Launch, LocalServer
from libs.local.resources import resource

JAVA_MINIMUM: Final = 21
_MODULE: Final = "transport-netty4"
_MODULE_JARS: Final = ("netty-", "opensearch-netty4-", "transport-netty4-")
_SERVER_JAR: Final = re.compile(r"opensearch-(\d[\w.]*)\.jar")
_JVM: Final = (
    "-Xmx768m",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disable.jmx=true",
    "--enable-native-access=ALL-UNNAMED",
    # Without its native helper, the server starts as any user, even as root in a container; it only loses memory locking and
    # system call filters.
    "-Djna.nosys=true",
    "-Djna.noclasspath=true",
)


class LocalOpenSearch(LocalServer):
    """A single node without security. Acknowledged documents survive `kill`; `start` takes about six seconds."""

    name = "opensearch"

    @classmethod
    def install(cls) -> None:
        """Fetch the jars and check that Java is installed."""
        find_java(JAVA_MINIMUM)
        jars("opensearch")

    @cached_property
    def _transport_port(self) -> int:
        return free_port()

    @property
    def url(self) -> str:
        """The node's URL."""
        return f"http://{LOOPBACK}:{self.port}"

    def _launch(self) -> Launch:
        java = find_java(JAVA_MINIMUM)
        found = sorted(jars("opensearch").glob("*.jar"))
        module = [jar for jar in found if jar.name.startswith(_MODULE_JARS)]
        server = [jar for jar in found if jar not in module]
        home = self.data_dir.resolve() / "home"
        _arrange(home, module, _version(server))
        settings = {
            "path.data": home.parent / "data",
            "path.logs": home.parent,
            "http.port": self.port,
            "transport.port": self._transport_port,
        }
        paths = (f"-Dopensearch.path.home={home}", f"-Dopensearch.path.conf={home / 'config'}")
        options = tuple(f"-E{name}={value}" for name, value in settings.items())
        jvm = (str(java), *_JVM, *paths, "-cp", os.pathsep.join(map(str, server)))
        return Launch((*jvm, "org.opensearch.bootstrap.OpenSearch", *options), ready=self._healthy)

    def _healthy(self) -> bool:
        """Return whether the node responds and has recovered its indices."""
        try:
            with closing(http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)) as connection:
                connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s")
                return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _arrange(home: Path, module: list[Path], version: str) -> None:
    """Rebuild the home directory: configuration, and the module's jars as links with their descriptor."""
    shutil.rmtree(home, ignore_errors=True)
    modules, config = home / "modules" / _MODULE, home / "config"
    for directory in (modules, config):
        directory.mkdir(parents=True)
    for jar in module:
        (modules / jar.name).symlink_to(jar)
    descriptor = resource("opensearch/plugin-descriptor.properties")
    (modules / descriptor.name).write_text(Template(descriptor.read_text()).substitute(version=version))
    for name in ("opensearch.yml", "log4j2.properties"):
        shutil.copyfile(resource(f"opensearch/{name}"), config / name)


def _version(server: list[Path]) -> str:
    return next(match[1] for jar in server if (match := _SERVER_JAR.fullmatch(jar.name)))
