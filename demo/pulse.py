"""Whether a process that says nothing is at work, by the processor time that it uses."""

import time

import psutil

IDLE_SHARE = 0.02  # of one core: what a server that only waits stays below


class Pulse:
    """Watches one process. A computation of any length counts as work, waiting for what never comes does not."""

    def __init__(self, pid: int):
        self._process = psutil.Process(pid)
        self.beat()

    def beat(self) -> None:
        """Something was heard of the process: its silence begins anew."""
        self._since, self._used = time.monotonic(), self._processor_seconds()

    def idle_seconds(self) -> float:
        """For how long the process has been neither heard of nor at work; 0 if it has worked since the last look."""
        elapsed = time.monotonic() - self._since
        if self._processor_seconds() - self._used > IDLE_SHARE * elapsed:
            self.beat()
            return 0.0
        return elapsed

    def _processor_seconds(self) -> float:
        try:
            times = self._process.cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return times.user + times.system
