"""The tier in host memory by itself, on streams that are as fast or as slow as they like: which buffers it takes, what
waits for what.
"""

from contextlib import contextmanager

import pytest
import torch
from anchored_layers import CPU
from clock_streams import Stream
from fake_copies import COMING, COMPUTE, LEAVING, OTHER_COMPUTE, Event, FakeCopies, Machine
from hypothesis import given, settings
from hypothesis import strategies as st

from jenga.carving.operands import Residual
from jenga.carving.residuals import AnchorState
from jenga.runtime import host_tier
from jenga.runtime.anchors import is_anchor
from jenga.runtime.copy_streams import CopyStreams, Traffic
from jenga.runtime.host_tier import HostTier
from jenga.runtime.residual_store import Budget, ResidualStore


def tier_on(machine: Machine, monkeypatch, limit: int = 1 << 20, ahead: int = 0) -> HostTier:
    monkeypatch.setattr(host_tier, "CopyStreams", lambda device, traffic: FakeCopies(machine))
    monkeypatch.setattr(host_tier, "AHEAD_BYTES", ahead)
    return HostTier(limit, CPU, Traffic())


def state_of(value: int) -> AnchorState:
    codes, scale = torch.full((1, 6, 2, 4), value, dtype=torch.int8), torch.full((1, 6, 2), float(value))
    blocks, tail_bias = torch.full((1, 2, 3, 1), value, dtype=torch.uint8), torch.full((1, 2, 7), value / 2)
    return AnchorState(Residual(codes, scale), blocks, 7, 1 + value % 5, tail_bias)


STATE_BYTES = sum(x.nbytes for x in state_of(0).tensors)


def test_what_was_expected_and_does_not_come_makes_room(monkeypatch):
    machine = Machine()
    tier = tier_on(machine, monkeypatch)
    assert tier.reserve(list("abcd"), STATE_BYTES)
    for value, key in enumerate("abcd"):
        tier.put(key, state_of(value))
    tier.prefetch([(0, ("a",)), (1, ("b",)), (2, ("c",))])
    assert set(tier._ahead) == {("a",), ("b",)}
    tier.prefetch([(2, ("c",)), (0, ("a",)), (1, ("b",))])
    assert set(tier._ahead) == {("c",), ("a",)}
    assert (tier.get(("d",)).residual.codes == 3).all()
    tier.release(("d",))
    tier.prefetch([])
    assert not tier._ahead and len(tier._ring._free) == 3


def test_larger_states_take_the_place_of_smaller_buffers(monkeypatch):
    tier = tier_on(Machine(), monkeypatch)
    tier.reserve(list("ab"), STATE_BYTES)
    for value, key in enumerate("ab"):
        tier.put(key, state_of(value))
    for keys in (("a",), ("a", "b"), ("a",)):
        found = tier.get(keys)
        assert [int(x) for x in found.residual.scale[:, 0, 0]] == [0, 1][: len(keys)]
        assert found.max_kv == len(keys)
        tier.release(keys)
    assert len(tier._ring._free) == 1


class Program:
    """A run as a HostTier sees it, on streams that go on as they like. wrong: what a layer read and should not have."""

    def __init__(self, seed: int, monkeypatch, ahead: int, both: bool):
        self.machine = Machine(seed, eager=False)
        self.tier = tier_on(self.machine, monkeypatch, 12 * STATE_BYTES, ahead)
        self.keys = [((layer, "a"), (layer, "b")) if both else ((layer, "a"),) for layer in range(5)]
        self.values: dict = {}
        self.wrong: list = []

    def anchor(self, layer: int, evaluation: int) -> None:
        for number, key in enumerate(self.keys[layer]):
            value = self.values[key] = 10 * evaluation + 2 * layer + number + 1
            made = state_of(0)
            for x, final in zip(made.tensors, state_of(value).tensors, strict=True):
                self.machine.start(COMPUTE, lambda x=x, final=final: x.copy_(final))
            self.tier.put(key, made)
            self.machine.go_on()

    def use(self, layer: int) -> None:
        keys = self.keys[layer]
        state, values = self.tier.get(keys), [self.values[key] for key in keys]
        for half in range(2):  # reading takes its time too

            def read(half=half):
                found = [x.chunk(2, 1)[half] for x in state.tensors]
                right = [torch.cat([state_of(v).tensors[i] for v in values]).chunk(2, 1)[half] for i in range(3)]
                if not all(map(torch.equal, found, right)):
                    self.wrong.append((layer, values))

            self.machine.start(COMPUTE, read)
        self.tier.release(keys)

    def run(self, distance: int, drop_at: int) -> None:
        self.tier.reserve([key for keys in self.keys for key in keys], STATE_BYTES)
        for evaluation in range(7):
            for layer, keys in enumerate(self.keys):
                if (evaluation, layer) == (drop_at, 3):  # another takes its place
                    for key in keys:
                        self.tier.drop(key)
                    self.tier.reserve(list(keys), STATE_BYTES)
                if is_anchor(layer, evaluation, distance) or not self.tier.has(keys):
                    self.anchor(layer, evaluation)
                else:
                    self.use(layer)
                order = [(layer + ahead) % 5 for ahead in range(1, 6)]
                there = [(one, self.keys[one]) for one in order if self.tier.has(self.keys[one])]
                self.tier.prefetch(there)
                self.machine.go_on()
        self.machine.run()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    distance=st.sampled_from([0, 2, 3]),
    drop_at=st.integers(1, 8),
    ahead=st.sampled_from([0, 3 * STATE_BYTES, 20 * STATE_BYTES]),
    both=st.booleans(),
)
def test_whatever_the_streams_do_a_layer_reads_what_its_last_anchor_kept(seed, distance, drop_at, ahead, both):
    with pytest.MonkeyPatch.context() as patch:
        program = Program(seed, patch, ahead, both)
        program.run(distance, drop_at)
        assert program.wrong == []


def test_a_copy_that_leaves_holds_up_none_that_comes(monkeypatch):
    """A state waits on its way out for compute that never ends; another one comes all the same."""
    machine = Machine(eager=False)
    tier = tier_on(machine, monkeypatch)
    tier.reserve(list("ab"), STATE_BYTES)
    tier.put("a", state_of(1))
    machine.run()
    tier.prefetch([(0, ("a",))])
    machine.run()
    tier.get(("a",))
    tier.release(("a",))
    machine.run()
    stuck = Event()
    machine.wait(COMPUTE, stuck)
    tier.put("b", state_of(2))
    tier.prefetch([(0, ("a",))])
    machine.run(until=lambda: machine.idle(COMING))
    assert ("a",) in tier._ahead and not machine.idle(LEAVING) and not machine.idle(COMPUTE)
    stuck.reach()
    machine.run()
    assert (tier.get(("b",)).residual.codes.shape, machine.idle(LEAVING)) == ((1, 6, 2, 4), True)


@pytest.mark.parametrize("dropped", [False, True])
def test_a_place_is_written_after_it_was_read_though_another_thread_writes(monkeypatch, dropped):
    machine = Machine(eager=False)
    tier = tier_on(machine, monkeypatch, limit=STATE_BYTES + 3)
    assert tier.reserve(["a"], STATE_BYTES)
    tier.put("a", state_of(1))
    machine.run()
    stuck, read = Event(), []
    machine.wait(COMING, stuck)
    state = tier.get(("a",))
    machine.start(COMPUTE, lambda: read.extend(x.clone() for x in state.tensors))
    tier.release(("a",))
    machine.current = OTHER_COMPUTE
    if dropped:
        tier.drop("a")
        assert tier.reserve(["a"], STATE_BYTES)
    tier.put("a", state_of(2))
    machine.run(until=lambda: machine.idle(OTHER_COMPUTE))
    machine.run(steps=100)
    stuck.reach()
    machine.run()
    assert all(map(torch.equal, read, state_of(1).tensors))


def test_no_room_for_what_would_come_ahead_is_no_failure(monkeypatch):
    """And a state that is needed now takes the buffer of one that is not."""
    tier = tier_on(Machine(), monkeypatch)
    tier.reserve(list("abc"), STATE_BYTES)
    for value, key in enumerate("abc"):
        tier.put(key, state_of(value))
    tier.prefetch([(0, ("a",))])
    buffers, empty = [], torch.empty

    def full(*size, **options):
        if options.get("dtype") == torch.uint8:
            buffers.append(size)
            raise torch.OutOfMemoryError("made by this test")
        return empty(*size, **options)

    monkeypatch.setattr("jenga.runtime.ring.torch.empty", full)
    tier.prefetch([(0, ("a",)), (1, ("b",))])
    assert set(tier._ahead) == {("a",)} and len(buffers) == 1
    assert (tier.get(("c",)).residual.codes == 2).all() and not tier._ahead
    with pytest.raises(torch.OutOfMemoryError):
        tier.get(("b",))
    tier.release(("c",))
    assert (tier.get(("b",)).residual.codes == 1).all()


def test_a_prefetched_state_is_that_of_the_last_put():
    store = ResidualStore(CPU, Budget(0, 1000))
    store.reserve(["a"], STATE_BYTES)
    for value in (1, 2):
        store.put(("a",), state_of(value))
        store.prefetch([(0, ("a",)), (1, ("unknown",))])
    for _ in range(2):
        assert (store.get(("a",)).residual.codes == 2).all()
        store.release(("a",))


# --- on a GPU's streams -----------------------------------------------------------------------------------------------

CUDA = torch.device("cuda:0")


class Memory:
    """A tensor: who must be through with it before it is given to another."""

    nbytes = 10

    def __init__(self, machine):
        self._machine, self.held_for = machine, []

    def copy_(self, source: "Memory", non_blocking: bool) -> None:
        assert non_blocking
        self._machine.current.step()

    def record_stream(self, stream: Stream) -> None:
        self.held_for.append(stream)


class Gpu:
    """current: its stream. timed: the streams that an event with a time was recorded on."""

    def __init__(self, monkeypatch):
        self.main = self.current = Stream(CUDA)
        self.timed = []
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", self.on)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.current)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: self)

    def record(self, stream: Stream) -> None:
        self.timed.append(stream)

    @contextmanager
    def on(self, stream: Stream):
        before, self.current = self.current, stream
        yield
        self.current = before


def test_copies_wait_for_what_they_are_told_and_compute_for_what_it_needs(monkeypatch):
    gpu = Gpu(monkeypatch)
    traffic = Traffic()
    copies = CopyStreams(CUDA, traffic)
    state, place, buffer, other = (Memory(gpu) for _ in range(4))
    made = gpu.main.step()
    left = copies.send([(place, state)], [copies.now(), None])
    later = gpu.main.step()
    assert copies._leaving.knows(made) and not copies._leaving.knows(later)
    unrelated = copies.bring([(other, place)], [])
    assert not copies._coming.knows(made) and not copies._coming.knows(left)
    came = copies.bring([(buffer, place)], [None, left])
    assert copies._coming.knows(left) and not copies._coming.knows(later)
    copies.wait(unrelated, other)
    assert gpu.main.knows(unrelated) and not gpu.main.knows(came)
    copies.wait(came, buffer)
    assert gpu.main.knows(came) and gpu.timed == [gpu.main] * 4
    assert (state.held_for, place.held_for) == ([copies._leaving], [])
    assert buffer.held_for == other.held_for == [copies._coming, gpu.main]
    assert (traffic.to_host, traffic.to_device) == (10, 20)


def test_on_a_cpu_a_copy_is_over_when_it_was_started():
    traffic = Traffic()
    copies = CopyStreams(CPU, traffic)
    here, there = torch.arange(6), torch.zeros(6, dtype=torch.int64)
    assert copies.send([(there, here)], [copies.now(), None]) is None and torch.equal(there, here)
    assert copies.bring([(here, there)], [None]) is None
    copies.wait(None, here)
    copies.settle()
    assert (traffic.to_host, traffic.to_device, traffic.waited()) == (48, 48, None)
