"""A key in Redis that lives as long as a consumer does, kept alive by a thread."""

from __future__ import annotations

import logging
import threading

import redis

from bridge.queue.streams import scripts as lua

__all__ = ["Heartbeat"]

logger = logging.getLogger(__name__)


class Heartbeat:
    """Shows under `key` that this consumer is alive; without it the key ends after `seconds`."""

    def __init__(self, client: redis.Redis, key: str, seconds: float) -> None:
        self._client, self._key, self._seconds = client, key, seconds
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._show = client.register_script(lua.SHOW_LIFE)

    def begin(self) -> None:
        """Show life now and from now on. Raises redis.RedisError; does nothing the second time."""
        if self._thread is None or not (self._thread.is_alive() or self._stopped.is_set()):
            self.show()
            self._thread = threading.Thread(
                target=self._go_on, name=f"heartbeat {self._key}", daemon=True
            )
            self._thread.start()

    def show(self) -> None:
        """Show life once. Raises redis.RedisError."""
        self._show(keys=[self._key], args=[int(self._seconds * 1000)])

    def _go_on(self) -> None:
        while not self._stopped.wait(self._seconds / 4):
            try:
                self.show()
            except Exception as error:
                # Whatever it is: a heart that stops would give away what is held.
                logger.warning("%s: %s", self._key, error)

    def fall_silent(self) -> None:
        """Show no more life; the key ends by itself."""
        self._stopped.set()

    def close(self, *, gone: bool) -> None:
        """End the thread, and with `gone` the key too. Raises redis.RedisError."""
        self.fall_silent()
        if self._thread is not None:
            # Otherwise a last sign of life could come after the deletion.
            self._thread.join()
            self._thread = None
            if gone:
                self._client.delete(self._key)
