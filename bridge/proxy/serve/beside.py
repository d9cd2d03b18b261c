"""A process beside the workers, which the parent keeps: the operator's listener, and the shadow.

Nothing of it is in the workers. It is started when it is wanted, and again when it has ended or
hangs.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence

__all__ = ["Beside"]

_LONGEST = 60.0  # seconds
_BRIEF = 10.0  # seconds; who lives no longer than that is waited for ever longer
_PATIENCE = 5.0  # seconds that who is told to end may take


class Beside:
    """One such process.

    command: its words. It ends by itself with its parent.
    wanted: whether it is to run now.
    hangs: whether the process of this id, which was started so many seconds ago, is to be killed.
    again: seconds between two starts at least.
    patient: whether one that keeps ending at once is started less and less often.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        wanted: Callable[[], bool] = lambda: True,
        hangs: Callable[[int, float], bool] = lambda pid, seconds: False,
        again: float = 2.0,
        patient: bool = False,
    ) -> None:
        self._command, self._wanted, self._hangs = command, wanted, hangs
        self._again, self._patient = again, patient
        self._pause = again
        self._process: subprocess.Popen[bytes] | None = None
        self._since = -_LONGEST
        self._told: float | None = None  # when it was told to end

    def keep(self) -> None:
        """Look whether all is as it should be; called again and again. Raises OSError when no
        process can be started."""
        now = time.monotonic()
        process = self._process
        if process is not None and process.poll() is None:
            self._look(process, now)
        elif self._wanted() and now - self._since > self._pause_after(now):
            self._since, self._told = now, None
            self._process = subprocess.Popen(self._command)

    def _look(self, process: subprocess.Popen[bytes], now: float) -> None:
        if self._hangs(process.pid, now - self._since):
            process.kill()
        elif self._told is not None:
            if now - self._told > _PATIENCE:
                process.kill()
        elif not self._wanted():
            self._told = now
            process.terminate()

    def _pause_after(self, now: float) -> float:
        """Seconds from the last start to the next. One that has lived for long starts soon."""
        process, self._process = self._process, None
        if process is not None and self._patient:
            brief = self._told is None and now - self._since < _BRIEF
            self._pause = min(self._pause * 2, _LONGEST) if brief else self._again
        return self._pause

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_PATIENCE * 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
