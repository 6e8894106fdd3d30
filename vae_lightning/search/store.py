"""Where a study is kept: a journal file, an SQLite file or a PostgreSQL server. Any number of processes share it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from vae_lightning.errors import ConfigError, UserError
from vae_lightning.paths import expanded

KEY = "hydra.sweeper.storage"
JOURNALS = (".log", ".journal")
SQLITE, POSTGRESQL = "sqlite:///", "postgresql+psycopg://"
BUSY = 120  # seconds that a writer waits for others
BEAT, SILENCE = 60, 300  # seconds: a sweep says that its trials are alive; silent for so long, they are not
LOCK = 7_246_835  # of PostgreSQL's numbered locks


class Store:
    """A storage by its address, which jobs are told too.

    Args:
        address: a path that ends in .log or .journal, `sqlite:///<path>` or `postgresql://<user>@<host>/<database>`;
            None is a journal file in `folder`. A password is taken out of it and handed to jobs as `PGPASSWORD`.
        folder: of the sweep.

    Raises:
        ConfigError: none of these.
    """

    def __init__(self, address: str | None, folder: Path = Path()) -> None:
        address = address or str(folder / "search.journal")
        scheme, separator, path = address.partition("://")
        self.path: Path | None = None
        if not separator and address.endswith(JOURNALS):
            self.path = expanded(address).absolute()
            self.address = str(self.path)
        elif address.startswith(SQLITE) and len(address) > len(SQLITE):
            self.path = expanded(path[1:]).absolute()
            self.address = f"{SQLITE}{self.path}"
        elif scheme in ("postgresql", "postgresql+psycopg"):
            self.address = _without_password(POSTGRESQL + path)
        else:
            raise ConfigError(
                f"{KEY}={address}: say a file that ends in {' or '.join(JOURNALS)}, sqlite:///<file>, or "
                "postgresql://<user>@<host>/<database>"
            )

    def open(self, stale: Callable[[Any, Any], None] | None = None) -> BaseStorage:
        """Connect.

        Args:
            stale: is called with the study and the trial when `optuna.storages.fail_stale_trials` finds one whose sweep
                has been silent for too long. Only databases know.

        Raises:
            UserError: the server or the file cannot be reached.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            if "://" not in self.address:
                lock: Any = FileLock(f"{self.address}.lock", poll_interval=0.005)  # ends with its process, Optuna's not
                return JournalStorage(JournalFileBackend(self.address, lock_obj=lock))
            from sqlalchemy.pool import NullPool

            wait = {"timeout": BUSY} if self.path else {}
            engine = {"connect_args": wait, "poolclass": NullPool}  # jobs that train hold no connection
            beats: dict[str, Any] = {"heartbeat_interval": BEAT, "grace_period": SILENCE} if stale else {}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(self.address, engine, **beats, heartbeat_stale_trial_callback=stale)
        except (OSError, *_database_errors()) as error:
            raise self._unreachable(error) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process at a time is in here, on whatever machine. The lock of a process that dies is free again.

        Raises:
            UserError: the server or the file cannot be reached.
        """
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.turn", poll_interval=0.01):
                yield
            return
        try:
            lock = _advisory_lock(self.address)
        except _database_errors() as error:
            raise self._unreachable(error) from error
        with lock:
            yield

    def _unreachable(self, error: Exception) -> UserError:
        return UserError(
            f"{KEY}={self.address}: cannot be reached: {' '.join(str(error).split('(Background')[0].split())}"
        )


def _database_errors() -> tuple[type[Exception], type[Exception]]:
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, StorageInternalError


def _without_password(address: str) -> str:
    from sqlalchemy.engine import make_url

    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise UserError(f'{KEY}: PostgreSQL needs psycopg: pip install "vae-lightning[postgresql]"') from error
    url = make_url(address)
    if url.password:
        os.environ["PGPASSWORD"] = str(url.password)
        url = url._replace(password=None)  # `set` takes None for "as it is"
    return str(url)


def _advisory_lock(address: str) -> Any:
    """Held until the connection is closed, also by its process's death."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    connection = create_engine(address, poolclass=NullPool).connect()
    connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": LOCK})
    return connection
