"""The order of a lane's copies and work, without a GPU: streams that know what has happened before them.

A stand-in of a stream carries a clock of all streams, as an event does; waiting takes the later of each. Whatever one
stream reads must be in its clock by then, and whatever is freed must be in the clock of the stream that owns it.
"""

from contextlib import contextmanager

import pytest
import torch
from clock_streams import Stream

from jenga.runtime.lane import Lane, wait_for

HOME, OTHER = torch.device("cuda:0"), torch.device("cuda:1")


class Memory:
    """A tensor: its number, and the stream that was current where it was made, which may take its memory again."""

    def __init__(self, machine: "Machine", device, number: float = 0.0):
        self._machine, self._device, self.number = machine, device, number
        self.owner = machine.current[device]

    def copy_(self, source: "Memory", non_blocking: bool) -> None:
        assert non_blocking
        self._machine.copy(source._device, self._device)
        self.number = source.number


class Machine:
    """Two GPUs. current: each one's stream. copies: the moment of each copy between them."""

    def __init__(self, monkeypatch):
        self.main, self.theirs = Stream(HOME), Stream(OTHER)
        self.current = {HOME: self.main, OTHER: self.theirs}
        self.copies: list[dict] = []
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", self.on)
        monkeypatch.setattr(torch.cuda, "current_stream", self.current.get)
        monkeypatch.setattr(torch, "empty_like", lambda x, device: Memory(self, device))

    @contextmanager
    def on(self, stream):
        before, self.current[stream.device] = self.current[stream.device], stream
        try:
            yield
        finally:
            self.current[stream.device] = before

    def copy(self, source, target) -> None:
        """As torch copies: the source's stream waits for the target's, the target's for the copy."""
        source, target = self.current[source], self.current[target]
        source.wait_event(target.step())
        self.copies.append(source.step())
        target.wait_event(self.copies[-1])


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_nothing_is_read_before_it_is_there_and_nothing_freed_before_it_is_read(machine):
    lane = Lane(HOME, OTHER)
    for _ in range(2):  # a second call takes the memory of the first
        made = machine.main.step()  # q, k, v, and the places for what comes back
        freed = lane._compute.step()  # by whatever ran there before
        ready = machine.main.step()
        brought = [lane.bring((Memory(machine, HOME, number),), ready) for number in (1.0, 2.0)]
        assert lane._leave_home.knows(made) and lane._leave_home.knows(freed)
        for (tensors, arrived), arrival in zip(brought, machine.copies[-2:], strict=True):
            now = []

            def work(x, arrival=arrival, now=now):
                here = machine.current[OTHER]
                assert here is lane._compute is x.owner and here.knows(arrival)
                now.append(here.step())
                result = Memory(machine, OTHER, 10 * x.number)
                return (result,)

            result, done = lane.compute(tensors, arrived, work)
            place = Memory(machine, HOME)
            there = lane.send_home(result, done, (place,))
            assert lane._leave.knows(now[0]) and lane._come_home.knows(made)
            assert not machine.main.knows(machine.copies[-1])
            wait_for(there, HOME)
            assert machine.main.knows(machine.copies[-1]) and place.number == 10 * tensors[0].number
        assert not lane._compute.knows(machine.copies[-1])  # it could go on computing beside that copy
        lane.settle()
        for stream in (machine.main, lane._compute):  # which own all memory of the call
            assert all(stream.knows(copy) for copy in machine.copies)


def test_a_piece_is_computed_while_the_next_one_is_copied_and_home_is_at_work(machine):
    lane = Lane(HOME, OTHER)
    ready = machine.main.step()
    first, second = (lane.bring((Memory(machine, HOME),), ready) for _ in range(2))
    busy = machine.main.step()  # home's own heads
    lane.compute(*first, lambda x: (x,))
    assert lane._compute.knows(machine.copies[0]) and not lane._compute.knows(machine.copies[1])
    lane.compute(*second, lambda x: (x,))
    assert lane._compute.knows(machine.copies[1])
    assert not any(stream.knows(busy) for stream in (lane._leave_home, lane._compute, lane._come_home))


def test_after_a_call_that_ended_early_its_memory_is_free_too(machine):
    lane = Lane(HOME, OTHER)
    ready = machine.main.step()
    first, _ = (lane.bring((Memory(machine, HOME),), ready) for _ in range(2))
    result, done = lane.compute(*first, lambda x: (x,))
    lane.send_home(result, done, (Memory(machine, HOME),))
    assert not any(machine.main.knows(copy) for copy in machine.copies)
    lane.settle()
    assert all(stream.knows(copy) for copy in machine.copies for stream in (machine.main, lane._compute))


def test_without_streams_everything_runs_in_turn():
    lane, place = Lane(torch.device("cpu"), torch.device("cpu:1")), torch.zeros(2)
    tensors, arrived = lane.bring((torch.ones(2),), None)
    result, done = lane.compute(tensors, arrived, lambda x: (x + 1,))
    assert lane.send_home(result, done, (place,)) is None and place.tolist() == [2, 2]
    lane.settle()
