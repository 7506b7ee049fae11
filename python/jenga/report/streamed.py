"""What anchors moved between a device and host memory in a run, and what that cost."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..runtime.copy_streams import Traffic

GIB = 2**30


@dataclass
class Streamed:
    """Of one device. waited_seconds: in which it had nothing to compute before a copy was there; None: not measured."""

    device: str
    to_device_bytes: int
    to_host_bytes: int
    waited_seconds: float | None

    @classmethod
    def of(cls, device: str, traffics: Iterable[Traffic]) -> "Streamed":
        """Of a run that is over; waits for the device."""
        traffics = list(traffics)
        try:
            waits = [seconds for one in traffics if (seconds := one.waited()) is not None]
        except RuntimeError:  # a device that failed during the run says nothing more
            waits = []
        moved = (sum(getattr(one, way) for one in traffics) for way in ("to_device", "to_host"))
        return cls(device, *moved, sum(waits) if waits else None)

    def words(self) -> str:
        """One line."""
        came, went = self.to_device_bytes / GIB, self.to_host_bytes / GIB
        text = f"anchors on {self.device}: {went:.1f} GiB went to host memory, {came:.1f} GiB came back"
        if self.waited_seconds is None:
            return text
        return f"{text}, and {self.waited_seconds:.2f} s were spent waiting for it"
