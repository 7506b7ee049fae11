"""What the demo shows while ComfyUI works: bars that move on with every event, and with every heartbeat."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Times one node of a prompt and shows it as a bar: its steps, or the time alone if it tells none."""

    def __init__(self, node: str, title: str):
        self.node, self.title = node, title
        self.seconds = 0.0
        self._start: float | None = None
        self._bar: tqdm | None = None

    def __call__(self, kind: str, data: dict) -> None:
        if kind == "executing":
            self._stop()
            if data.get("node") == self.node:
                self._start = time.perf_counter()
                self._bar = tqdm(desc=self.title, bar_format="{desc:>16}: {elapsed}", file=sys.stdout)
        elif kind == "progress" and data.get("node") == self.node:
            if self._bar.total is None:
                self._bar.bar_format = "{desc:>16}: {bar:40} {n_fmt} of {total_fmt} steps, {elapsed}"
                self._bar.total = data["max"]
            self._bar.update(data["value"] - self._bar.n)
        elif kind == "heartbeat" and self._bar is not None:
            self._bar.refresh()
        elif kind in ("execution_success", "execution_error"):
            self._stop()

    def _stop(self) -> None:
        if self._start is not None:
            self.seconds += time.perf_counter() - self._start
            self._start = None
            self._bar.close()
            self._bar = None
