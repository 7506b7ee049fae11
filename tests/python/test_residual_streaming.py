"""States of anchors in host memory: they come ahead, in the order in which layers ask, and are the right ones."""

from contextlib import contextmanager

import pytest
import torch
from anchored_layers import CPU, PLENTY, Run, draw
from clock_streams import Stream
from fake_copies import COMING, COMPUTE, LEAVING, OTHER_COMPUTE, Event, FakeCopies, Machine
from hypothesis import given, settings
from hypothesis import strategies as st

from jenga import AnchorConfig
from jenga.carving import ops
from jenga.carving.operands import Residual
from jenga.carving.residuals import AnchorState, num_bytes
from jenga.report.report import Report
from jenga.report.streamed import Streamed
from jenga.runtime import host_tier
from jenga.runtime import run as runs
from jenga.runtime.anchors import ANCHOR, is_anchor
from jenga.runtime.call_order import CallOrder
from jenga.runtime.copy_streams import CopyStreams, Traffic
from jenga.runtime.host_tier import HostTier
from jenga.runtime.residual_store import Budget, ResidualStore, budget_for

BACKEND = "native" if ops.native_status().cpu else "reference"
SIZE = num_bytes(585, 2, 64, 5, 10, 4)


def tier_on(machine: Machine, monkeypatch, limit: int = 1 << 20, ahead: int = 0) -> HostTier:
    monkeypatch.setattr(host_tier, "CopyStreams", lambda device, traffic: FakeCopies(machine))
    monkeypatch.setattr(host_tier, "AHEAD_BYTES", ahead)
    return HostTier(limit, CPU, Traffic())


def state_of(value: int) -> AnchorState:
    codes, scale = torch.full((1, 6, 2, 4), value, dtype=torch.int8), torch.full((1, 6, 2), float(value))
    return AnchorState(Residual(codes, scale), torch.full((1, 2, 3, 1), value, dtype=torch.uint8), 7, 1 + value % 5)


STATE_BYTES = sum(x.nbytes for x in state_of(0).tensors)


# --- the order --------------------------------------------------------------------------------------------------------


def test_the_next_evaluation_is_expected_to_be_like_the_last():
    order = CallOrder()
    for request in "abc":
        order.ask(request)
    assert list(order.upcoming()) == []  # nobody knows how many come
    order.begin()
    assert list(order.upcoming()) == [("a", False), ("b", False), ("c", False)]
    order.ask("a")
    assert list(order.upcoming()) == [("b", False), ("c", False)]
    order.ask("new")
    assert next(order.upcoming()) == ("b", False)
    order.ask("c")
    assert list(order.upcoming()) == [("a", True), ("b", True)]
    order.begin()
    assert [request for request, _ in order.upcoming()] == ["a", "new", "c"]


def test_a_call_that_is_made_once_more_is_expected_once():
    order = CallOrder()
    for request in "ababc":
        order.ask(request)
    order.begin()
    assert [request for request, _ in order.upcoming()] == ["a", "b", "c"]


def test_a_sampler_that_sits_an_evaluation_out_leaves_the_order():
    order = CallOrder()
    order.ask("a")
    order.begin()
    order.begin()
    assert list(order.upcoming()) == [("a", False)]


@pytest.fixture
def log(monkeypatch) -> list[tuple[str, tuple]]:
    """("get" or "bring", keys) in the order in which they happen."""
    lines, get, bring = [], HostTier.get, HostTier._bring

    def logged_get(self, keys):
        lines.append(("get", keys))
        return get(self, keys)

    def logged_bring(self, keys):
        lines.append(("bring", keys))
        return bring(self, keys)

    monkeypatch.setattr(HostTier, "get", logged_get)
    monkeypatch.setattr(HostTier, "_bring", logged_bring)
    return lines


def steps(run: Run, count: int, layers: int, **options):
    return [run.step(draw(seed=seed), layers=layers, **options) for seed in range(count)]


def test_two_layers_come_ahead_over_anchors_and_over_the_end_of_an_evaluation(log, monkeypatch):
    monkeypatch.setattr(host_tier, "AHEAD_BYTES", 0)
    layers, evaluations = 7, 9
    steps(Run(AnchorConfig(distance=4), Budget(0, 1 << 20)), evaluations, layers)
    asked = [keys[0][0] for what, keys in log if what == "get"]
    expected = [layer for step in range(1, evaluations) for layer in range(layers) if not is_anchor(layer, step, 4)]
    assert asked == expected  # an anchor needs nothing
    brought = [keys[0][0] for what, keys in log if what == "bring"]
    assert (
        brought[: len(asked)] == asked and len(brought) == len(asked) + 2
    )  # in order, each once, the last two in vain
    gets = 0
    for number, (what, _) in enumerate(log):
        if what == "get":
            gets += 1
            ahead = sum(what == "bring" for what, _ in log[:number]) - gets
            assert ahead == (-1 if gets == 1 else 1)  # the one after it has been on its way since the layer before
    assert log[1][0] == "bring" and [what for what, _ in log[2:4]] == ["bring", "bring"]


def test_small_states_come_as_far_ahead_as_there_is_room(log, monkeypatch):
    monkeypatch.setattr(host_tier, "AHEAD_BYTES", 4 * (SIZE + 3))
    steps(Run(AnchorConfig(distance=0), Budget(0, 1 << 20)), 2, 9)
    first = log[: 2 + 4]
    assert first[0] == ("get", ((0, ("cond", "one")),))
    assert [(what, keys[0][0]) for what, keys in first[1:]] == [("bring", layer) for layer in range(5)]


def test_a_conditioning_that_has_a_call_of_its_own_comes_in_its_turn(log, monkeypatch):
    monkeypatch.setattr(host_tier, "AHEAD_BYTES", 0)
    run = Run(AnchorConfig(distance=0), Budget(0, 1 << 20))
    for seed in range(4):
        run.step(draw(seed=seed), layers=3, keys=("cond",))
        run.step(draw(seed=seed), layers=3, keys=("uncond",), again=True)
    calls = [(layer, name) for name in ("cond", "uncond") for layer in range(3)]
    brought = [(layer, track[0]) for what, ((layer, track),) in log if what == "bring"]
    assert brought == (calls * 4)[: len(brought)] and len(brought) == 3 * 6 + 2


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


# --- the ring ---------------------------------------------------------------------------------------------------------


def test_buffers_are_used_again_and_no_more_are_made(monkeypatch):
    """Three: one that is read and two that come."""
    made = []
    empty = torch.empty
    run = Run(AnchorConfig(distance=4), Budget(0, 1 << 20))
    monkeypatch.setattr(host_tier, "AHEAD_BYTES", 0)

    def noted(*size, **options):
        made.append(size)
        return empty(*size, **options)

    monkeypatch.setattr("jenga.runtime.ring.torch.empty", noted)
    steps(run, 9, 7)
    sizes = [size for size in made if len(size) == 1 and isinstance(size[0], int) and SIZE <= size[0] < SIZE + 1024]
    assert len(sizes) == 3


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


# --- a whole run ------------------------------------------------------------------------------------------------------

# Conditionings of the calls of one evaluation.
CALLS = [(("cond",),), (("cond",), ("uncond",)), (("cond", "uncond"),), (("uncond", "cond"), ("other",))]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    on_device=st.integers(0, 6),
    distance=st.sampled_from([0, 2, 3]),
    bits=st.sampled_from([4, 8, 16]),
    ahead=st.sampled_from([0, 3, 100]),
    calls=st.sampled_from(
        [(("cond",),), (("cond",), ("uncond",)), (("cond", "uncond"),), (("uncond", "cond"), ("x",))]
    ),
    leaves=st.integers(1, 8),
)
def test_a_run_with_host_memory_has_the_bits_of_one_without(seed, on_device, distance, bits, ahead, calls, leaves):
    """Copies are late or early as they like; once, the device is full and gives back what it holds."""
    size = num_bytes(585, 2, 64, 5, 10, bits)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(seed)
        patch.setattr(host_tier, "CopyStreams", lambda device, traffic: FakeCopies(machine))
        patch.setattr(host_tier, "AHEAD_BYTES", ahead * size)
        budgets = Budget(on_device * size, 1 << 22), PLENTY
        pair = [Run(AnchorConfig(distance, bits), budget, BACKEND) for budget in budgets]
        for evaluation in range(6):
            for number, keys in enumerate(calls):
                keys = keys[::-1] if evaluation == 3 else keys  # a batch in another order
                qkv = draw(batch=len(keys), seed=10 * evaluation + number)
                rows = [run.step(qkv, layers=4, keys=keys, again=number > 0) for run in pair]
                assert all(torch.equal(a.out, b.out) and a.backend == b.backend for a, b in zip(*rows, strict=True))
            if evaluation == leaves:
                pair[0].anchored.leave_device()
                assert pair[0].anchored._store.used().device == 0
        assert pair[0].dense_calls == pair[1].dense_calls
        pair[0].anchored.close()


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


def test_what_is_moved_off_the_device_is_counted_as_the_rest():
    run = Run(AnchorConfig(0), Budget(1 << 20, 1 << 20))
    run.step(draw(), layers=3)
    assert run.anchored.traffic.to_host == 0
    assert run.anchored.leave_device()
    assert run.anchored.traffic.to_host == 3 * SIZE and run.anchored.traffic.to_device == 0
    run.step(draw(), layers=3)
    assert run.anchored.traffic.to_device == 3 * SIZE


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


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_report_says_what_was_streamed():
    report, traffic = Report(), [Traffic(), Traffic(), Traffic()]
    run = runs.Run(report)
    for one, (came, went) in zip(traffic, ((3 << 30, 1 << 30), (2 << 30, 0), (0, 0)), strict=True):
        one.to_device, one.to_host = came, went
    for number, device in enumerate(("cuda:0", "cuda:0", "cuda:1")):
        run.anchors(number, AnchorConfig(), torch.device(device)).traffic = traffic[number]
    run.close()
    assert report.streams == [Streamed("cuda:0", 5 << 30, 1 << 30, None)]
    assert report.notes == ["anchors on cuda:0: 1.0 GiB went to host memory, 5.0 GiB came back"]
    assert report.summary()["streamed"][0]["to_device_bytes"] == 5 << 30


def test_seconds_of_waiting_are_added_up_and_a_device_that_failed_has_none():
    class Watch:
        def __init__(self, seconds):
            self._seconds = seconds

        def seconds(self):
            if self._seconds is None:
                raise RuntimeError("the device is gone")
            return self._seconds

    def of(*seconds):
        traffic = Traffic()
        for one in seconds:
            traffic.waiting(Watch(one))
        return Streamed.of("cuda:0", [traffic, Traffic()])

    assert of(0.25, 0.5).waited_seconds == 0.75
    assert of(0.25, 0.5).words().endswith("0.0 GiB came back, and 0.75 s were spent waiting for it")
    assert of(0.25, None).waited_seconds is None and of().waited_seconds is None


def test_room_for_what_comes_is_within_what_the_device_may_give(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr("jenga.runtime.residual_store.free_memory", lambda device: 8 << 30)
    assert budget_for(cuda, 2 << 30) == Budget((2 << 30) - host_tier.AHEAD_BYTES, 4 << 30)
    assert budget_for(cuda, None) == Budget((2 << 30) - host_tier.AHEAD_BYTES, 4 << 30)
    assert budget_for(cuda, 1000, sharers=2) == Budget(0, 2 << 30)


def test_on_a_cpu_a_copy_is_over_when_it_was_started():
    traffic = Traffic()
    copies = CopyStreams(CPU, traffic)
    here, there = torch.arange(6), torch.zeros(6, dtype=torch.int64)
    assert copies.send([(there, here)], [copies.now(), None]) is None and torch.equal(there, here)
    assert copies.bring([(here, there)], [None]) is None
    copies.wait(None, here)
    copies.settle()
    assert (traffic.to_host, traffic.to_device, traffic.waited()) == (48, 48, None)


def test_a_run_on_a_cpu_alone_streams_nothing():
    run = Run(AnchorConfig(3), budget_for(CPU, None))
    results = steps(run, 4, 3)
    assert results[0][0].backend == ANCHOR and (run.anchored.traffic.to_host, run.anchored.traffic.to_device) == (0, 0)


def test_a_prefetched_state_is_that_of_the_last_put():
    store = ResidualStore(CPU, Budget(0, 1000))
    store.reserve(["a"], STATE_BYTES)
    for value in (1, 2):
        store.put(("a",), state_of(value))
        store.prefetch([(0, ("a",)), (1, ("unknown",))])
    for _ in range(2):
        assert (store.get(("a",)).residual.codes == 2).all()
        store.release(("a",))
