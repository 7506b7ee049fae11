"""A stand-in of torch.cuda.Stream that knows what has happened before its work, without a GPU."""


class Stream:
    """clock: for each stream the number of its steps that are known to be over before what comes next here."""

    def __init__(self, device):
        self.device, self.clock = device, {}

    def step(self) -> dict:
        """Something happens on this stream; its moment."""
        self.clock[self] = self.clock.get(self, 0) + 1
        return dict(self.clock)

    record_event = step

    def wait_event(self, moment: dict) -> None:
        for stream, count in moment.items():
            self.clock[stream] = max(self.clock.get(stream, 0), count)

    def wait_stream(self, other: "Stream") -> None:
        self.wait_event(other.step())

    def knows(self, moment: dict) -> bool:
        return all(self.clock.get(stream, 0) >= count for stream, count in moment.items())
