"""Signs of life: a database that hears nothing of a trial for some minutes takes it for lost."""

from __future__ import annotations

import contextlib
import threading

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from vae_lightning.search.store import BEAT


class Heart:
    """Says to a database, again and again, that trials are alive."""

    def __init__(self, storage: RDBStorage) -> None:
        self.storage, self.trials, self.ended = storage, set[int](), threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def start(self, trial: int) -> None:
        self.storage.record_heartbeat(trial)
        self.trials.add(trial)

    def stop(self, trial: int) -> None:
        self.trials.discard(trial)

    def close(self) -> None:
        self.ended.set()
        self.thread.join()

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            for trial in list(self.trials):
                with contextlib.suppress(StorageInternalError):  # the server is away; perhaps not the next time
                    self.storage.record_heartbeat(trial)
