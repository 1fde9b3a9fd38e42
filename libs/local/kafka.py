"""A local Apache Kafka: one KRaft node from Maven jars, Java 17 or newer."""

from __future__ import annotations

import base64
import re
import subprocess
import time
import uuid
from enum import Enum, auto
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Final

from libs.local.errors import ServerFailed
from libs.local.java import find_java
from libs.local.maven import jars
from libs.local.ports import LOOPBACK, free_port, is_free
from libs.local.process import Launch, LocalServer
from libs.local.resources import resource

JAVA_MINIMUM: Final = 17
_STARTED = "Kafka Server started"
_LOADING = re.compile(r"Scheduling loading of metadata from __consumer_offsets-0 with epoch (\d+)")
_LOST = "Ignored load completion from __consumer_offsets"
_GROUPS_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1


class Groups(Enum):
    """Whether consumer groups work on a broker that has started."""

    LOADING = auto()
    WORK = auto()
    LOST = auto()  # until the broker is restarted


class LocalKafka(LocalServer):
    """A single broker that is its own controller. Acknowledged records survive `kill`; `start` takes four seconds."""

    name = "kafka"

    @classmethod
    def install(cls) -> None:
        """Fetch the jars and check that Java is installed."""
        find_java(JAVA_MINIMUM)
        jars("kafka")

    @cached_property
    def _controller_port(self) -> int:
        return free_port()

    def start(self) -> None:
        """Start like every server, and a second time if groups are lost. See `groups_in`."""
        if self.running:
            return
        super().start()
        try:
            if self._loaded_groups() is not Groups.LOST:
                return
            self.stop()
        except BaseException:  # Ctrl-C too: nobody else knows about this process
            self.kill()
            raise
        super().start()

    def _loaded_groups(self) -> Groups:
        deadline = time.monotonic() + _GROUPS_SECONDS
        while (groups := groups_in(self.output())) is Groups.LOADING and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return groups

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"{LOOPBACK}:{self.port}"

    def _launch(self) -> Launch:
        java = (str(find_java(JAVA_MINIMUM)), "-cp", f"{jars('kafka')}/*")
        if not is_free(self._controller_port):
            self._controller_port = free_port()
        properties = self._write_properties()
        if not (self._log_dir / "meta.properties").exists():
            self._format(java, properties)
        logging = f"-Dlog4j2.configurationFile={resource('kafka/log4j2.properties')}"
        return Launch((*java, "-Xmx512m", logging, "kafka.Kafka", str(properties)), ready=lambda: _STARTED in self.output())

    @property
    def _log_dir(self) -> Path:
        return self.data_dir.resolve() / "log"

    def _write_properties(self) -> Path:
        template = Template(resource("kafka/server.properties").read_text(encoding="utf-8"))
        values = {"broker_port": self.port, "controller_port": self._controller_port, "log_dir": self._log_dir}
        file = self.data_dir / "server.properties"
        file.write_text(template.substitute(values), encoding="utf-8")
        return file

    def _format(self, java: tuple[str, ...], properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        argv = (*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(properties))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(f"kafka: {self._log_dir} could not be formatted: {(done.stderr or done.stdout).strip()}")


def groups_in(log: str) -> Groups:
    """Determine the state of consumer groups from a broker's log since its start.

    After a power cut, a broker (4.2.1) begins to load them for the epoch in which it was the leader, and then for the new one.
    If the first load ends after the second began, it is mistaken for the second, and no group works until the broker is
    restarted.
    """
    if _LOST in log:
        return Groups.LOST
    epochs = _LOADING.findall(log)
    if not epochs or f"Finished loading of metadata from __consumer_offsets-0 with epoch {epochs[-1]} " in log:
        return Groups.WORK
    return Groups.LOADING
