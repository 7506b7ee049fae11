"""Seconds of one call and the peak memory of a run, without making a GPU wait."""

import sys
import time

import torch


class Stopwatch:
    """Seconds of the work that is started between making this and `stop`.

    On a GPU two events of the current stream take the time, so nothing waits until it is read. No time is taken while
    a CUDA graph is captured and on devices other than CPU and CUDA.
    """

    def __init__(self, device: torch.device):
        self._stream = self._events = self._seconds = None
        self._start = time.perf_counter() if device.type == "cpu" else None
        if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            self._stream = torch.cuda.current_stream(device)
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self._events[0].record(self._stream)

    def stop(self) -> "Stopwatch":
        if self._start is not None:
            self._seconds = time.perf_counter() - self._start
        if self._events is not None:
            self._events[1].record(self._stream)
        return self

    def seconds(self) -> float | None:
        """After `stop`; waits for that work on a GPU. None where no time was taken."""
        if self._events is not None:
            self._events[1].synchronize()
            return self._events[0].elapsed_time(self._events[1]) / 1000
        return self._seconds


class PeakMemory:
    """The most memory that was in use since this was made.

    On a GPU: what torch had allocated; its peak counter starts anew. On the CPU: the process's resident memory, where
    an earlier peak may hide this one, so its growth is told too.
    """

    def __init__(self, device: torch.device):
        self._device, self._before = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            self._before = _peak_resident()

    def read(self) -> dict | None:
        """bytes, growth (bytes, CPU only) and of (what was measured); None where the device or system cannot say."""
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
            return {"bytes": peak, "growth": None, "of": f"allocated by torch on {self._device}"}
        if self._device.type == "cpu" and self._before:
            peak = _peak_resident()
            return {"bytes": peak, "growth": peak - self._before, "of": "resident memory of the whole process"}
        return None


def _peak_resident() -> int:
    """Bytes; 0 where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
