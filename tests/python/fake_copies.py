"""A device whose streams run in any order that their events allow: what comes too early or too late shows.

Work of a stream is done in its order. Which stream goes on next is drawn, so that a copy may be as fast or as slow
beside what is computed as its events leave it.
"""

from collections import deque
from random import Random

COMPUTE, OTHER_COMPUTE, COMING, LEAVING = "compute", "compute of another thread", "coming", "leaving"


class Event:
    """reached: what a stream was given before it is done."""

    def __init__(self):
        self.reached = False

    def reach(self) -> None:
        self.reached = True


class Machine:
    """eager: compute is always up to date, and waits for copies by running them. current: the stream of compute."""

    def __init__(self, seed: int = 0, eager: bool = True):
        self.eager = eager
        self._random = Random(seed)
        self.current = COMPUTE
        self._queues = {stream: deque() for stream in (COMPUTE, OTHER_COMPUTE, COMING, LEAVING)}

    def start(self, stream: str, work) -> None:
        self._queues[stream].append(work)

    def record(self, stream: str) -> Event:
        event = Event()
        self.start(stream, event.reach)
        return event

    def wait(self, stream: str, event: Event) -> None:
        self.start(stream, event)

    def run(self, steps: int | None = None, until=None) -> None:
        """So many pieces of work, or until a condition holds; else all. A stream that waits for ever is an error."""
        while steps is None or steps > 0:
            if until is not None and until():
                return
            ready = [queue for queue in self._queues.values() if queue and _may_go_on(queue[0])]
            if not ready:
                assert steps is not None or not any(self._queues.values()), "streams wait for each other"
                assert until is None, "an event that nothing reaches"
                return
            work = self._random.choice(ready).popleft()
            if not isinstance(work, Event):
                work()
            steps = None if steps is None else steps - 1

    def go_on(self) -> None:
        """Some more of what was started, or none."""
        self.run(steps=self._random.choice((0, 0, 1, 3, 10)))

    def idle(self, *streams: str) -> bool:
        return not any(self._queues[stream] for stream in streams)


def _may_go_on(work) -> bool:
    return work.reached if isinstance(work, Event) else True


class FakeCopies:
    """The CopyStreams of a Machine."""

    def __init__(self, machine: Machine):
        self._machine = machine

    def now(self) -> Event:
        event = self._machine.record(self._machine.current)
        if self._machine.eager:
            event.reach()
        return event

    def bring(self, pairs, after) -> Event:
        return self._copy(COMING, pairs, after)

    def send(self, pairs, after) -> Event:
        return self._copy(LEAVING, pairs, after)

    def wait(self, event: Event, memory) -> None:
        if self._machine.eager:
            self._machine.run(until=lambda: event.reached)
        else:
            self._machine.wait(self._machine.current, event)

    def settle(self) -> None:
        self._machine.run(until=lambda: self._machine.idle(COMING, LEAVING))

    def _copy(self, stream: str, pairs, after) -> Event:
        for event in after:
            if event is not None:
                self._machine.wait(stream, event)
        for target, source in pairs:
            for to, of in zip(target.chunk(2, 1), source.chunk(2, 1), strict=True):  # a copy is no single moment
                self._machine.start(stream, lambda to=to, of=of: to.copy_(of))
        self._machine.go_on()
        return self._machine.record(stream)
