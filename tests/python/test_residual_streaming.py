"""States of anchors in host memory: they come ahead, in the order in which layers ask, and are the right ones."""

import pytest
import torch
from anchored_layers import CPU, PLENTY, Run, draw
from fake_copies import FakeCopies, Machine
from hypothesis import given, settings
from hypothesis import strategies as st

from jenga import AnchorConfig
from jenga.carving import ops
from jenga.carving.residuals import num_bytes
from jenga.report.report import Report
from jenga.report.streamed import Streamed
from jenga.runtime import host_tier
from jenga.runtime import run as runs
from jenga.runtime.anchors import ANCHOR, is_anchor
from jenga.runtime.call_order import CallOrder
from jenga.runtime.copy_streams import Traffic
from jenga.runtime.host_tier import HostTier
from jenga.runtime.residual_store import Budget, budget_for

BACKEND = "native" if ops.native_status().cpu else "reference"
SIZE = num_bytes(585, 2, 64, 5, 10, 10, 4)


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
    size = num_bytes(585, 2, 64, 5, 10, 10, bits)
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


def test_what_is_moved_off_the_device_is_counted_as_the_rest():
    run = Run(AnchorConfig(0), Budget(1 << 20, 1 << 20))
    run.step(draw(), layers=3)
    assert run.anchored.traffic.to_host == 0
    assert run.anchored.leave_device()
    assert run.anchored.traffic.to_host == 3 * SIZE and run.anchored.traffic.to_device == 0
    run.step(draw(), layers=3)
    assert run.anchored.traffic.to_device == 3 * SIZE


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


def test_a_run_on_a_cpu_alone_streams_nothing():
    run = Run(AnchorConfig(3), budget_for(CPU, None))
    results = steps(run, 4, 3)
    assert results[0][0].backend == ANCHOR and (run.anchored.traffic.to_host, run.anchored.traffic.to_device) == (0, 0)
