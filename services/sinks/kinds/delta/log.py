"""The table's log: what the sink commits to it, once each, and what it asks.

Every commit carries an application transaction: the id of the shard's state, and the number of the publication as its version.
The log is asked for the last version first, so a commit whose answer was lost, or whose process died before it noted the
commit, is not made twice. Other writers may commit at the same time, since rows are only added; the library then tries again
with the next version of the table. What fails because the columns change at that moment is tried again by the sink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError, TableNotFoundError
from deltalake.transaction import AddAction

from libs.common.errors import CodecError, ConfigError, Retry, ServerUnreachable
from libs.common.security.redaction import excerpt
from services.sinks.kinds.delta.files import DataFile
from services.sinks.kinds.delta.place import Options, sync_log, upload
from services.sinks.kinds.delta.schema import DAY

if TYPE_CHECKING:
    from deltalake import Field, Schema

_COMMIT_ATTEMPTS: Final = 15
_PAUSE: Final = 2.0
_DENIED: Final = ("AuthenticationFailed", "AuthorizationFailure", "AuthorizationPermissionMismatch", "Permission denied")
_LONGER_PAUSE: Final = 10.0


class DeltaLog:
    """The log of one table."""

    def __init__(self, uri: str, options: Callable[[], Options]) -> None:
        """Take the place of the table and what gives the current options for it; nothing is read yet."""
        self._uri = uri
        self._options = options
        self._used: Options = {}
        self._table: DeltaTable | None = None

    def load(self) -> DeltaTable | None:
        """Return the table as it is now; None if there is none. Raises `DeltaError`, OSError."""
        options = self._options()
        try:
            if self._table is None or options != self._used:
                self._table, self._used = DeltaTable(self._uri, storage_options=options), options
            else:
                self._table.update_incremental()
        except TableNotFoundError:
            self._table = None
        except BaseException:
            self._table = None
            raise
        return self._table

    def create(self, schema: Schema, name: str, description: str) -> None:
        """Create the table. Raises `DeltaError`, OSError."""
        options = self._options()
        if "://" not in self._uri:
            from pathlib import Path

            Path(self._uri).mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            self._uri, schema, partition_by=[DAY], name=name, description=description, storage_options=options or None
        )
        sync_log(self._uri, 0)

    def add_columns(self, fields: Sequence[Field]) -> None:
        """Add columns to the table. Raises `DeltaError`, OSError."""
        table = self._loaded()
        table.alter.add_columns(list(fields))
        sync_log(self._uri, table.version())

    def publish(self, application: str, number: int, files: Sequence[DataFile]) -> None:
        """Add files to the table, unless publication `number` of this application has been added already.

        Raises:
            DeltaError, OSError: if that fails; it may have been done.
            CodecError: if the table has later publications of this application.
        """
        table = self._loaded()
        last = table.transaction_version(application)
        if last is not None and last > number:
            raise CodecError(
                f"delta: the table {self._uri} has commits of this sink that its directory does not know: the directory is an"
                " old copy. Give the sink an empty directory"
            )
        if last == number:
            sync_log(self._uri)  # whoever made the commit may have been killed before it was on the disk
            return
        for file in files:
            upload(self._uri, self._used, file.source, file.path)
        properties = CommitProperties(app_transactions=[Transaction(application, number)], max_commit_retries=_COMMIT_ATTEMPTS)
        table.create_write_transaction(
            [_action(file) for file in files], "append", table.schema(), [DAY], commit_properties=properties
        )
        sync_log(self._uri, table.version())

    def _loaded(self) -> DeltaTable:
        table = self.load()
        if table is None:
            raise TableNotFoundError(f"there is no table at {self._uri}")
        return table

    def forget(self) -> None:
        """Read the table anew when it is used next."""
        self._table = None


def _action(file: DataFile) -> AddAction:
    return AddAction(file.path, file.size, {DAY: file.day}, file.modified_ms, data_change=True, stats=file.stats)


def columns_of(table: DeltaTable) -> dict[str, str]:
    """Return the types of a table's columns by name."""
    return {field.name: str(getattr(field.type, "type", field.type)) for field in table.schema().fields}


@contextmanager
def at_start(uri: str) -> Iterator[None]:
    """Translate what goes wrong at the start."""
    try:
        yield
    except DeltaProtocolError as error:
        raise ConfigError(
            f"delta: the table {uri} has features that this library does not write: {excerpt(str(error))}"
        ) from error
    except (DeltaError, OSError) as error:
        whole, text = str(error), excerpt(str(error))
        if any(word in whole for word in _DENIED):
            raise ConfigError(f"delta: access to {uri} is denied: check storage and its roles ({text})") from error
        if "ContainerNotFound" in whole:
            raise ConfigError(f"delta: there is no container for {uri}: create it ({text})") from error
        raise ServerUnreachable(f"delta: {uri} cannot be reached: {text}") from error


@contextmanager
def while_writing(uri: str) -> Iterator[None]:
    """Translate what goes wrong later: everything is waited for."""
    try:
        yield
    except CommitFailedError as error:
        raise Retry(f"delta: others are changing {uri}: {excerpt(str(error))}", after=_PAUSE, kind="conflict") from error
    except TableNotFoundError as error:
        raise Retry(f"delta: {excerpt(str(error))}: run `blobtide sink-setup`", after=_LONGER_PAUSE, kind="operator") from error
    except (DeltaError, OSError) as error:
        raise Retry(f"delta: cannot write to {uri}: {excerpt(str(error))}", after=_PAUSE, kind="storage") from error


def summary_of(metrics: dict[str, Any]) -> str:
    """Return what a compaction did, in words."""
    return f"joined {metrics.get('numFilesRemoved', 0)} files to {metrics.get('numFilesAdded', 0)}"
