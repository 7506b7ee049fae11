"""Which layers will ask next for what they keep: the order of the last evaluation is expected again."""

from collections.abc import Hashable, Iterator


class CallOrder:
    """Requests in the order in which one evaluation after another makes them, each once an evaluation."""

    def __init__(self):
        self._last: dict[Hashable, int] = {}  # request -> its place
        self._now: dict[Hashable, int] = {}
        self._at = -1  # place in the last evaluation that this one has reached

    def begin(self) -> None:
        """An evaluation begins."""
        if self._now:
            self._last, self._now = self._now, {}
        self._at = -1

    def ask(self, request: Hashable) -> None:
        """A request that is made now. One that the last evaluation did not have leaves the place as it is."""
        self._now.setdefault(request, len(self._now))
        self._at = self._last.get(request, self._at)

    def upcoming(self) -> Iterator[tuple[Hashable, bool]]:
        """Requests to expect, the next one first, until this one comes again; and whether each is one of the next
        evaluation.
        """
        requests = list(self._last)
        for request in requests[self._at + 1 :]:
            yield request, False
        for request in requests[: max(0, self._at)]:
            yield request, True

    def clear(self) -> None:
        self.__init__()
