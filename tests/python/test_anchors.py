"""Anchored carving: when a layer is dense, what the steps in between return, what drops what is kept, and memory."""

import gc
import re
import sys
import threading

import psutil
import pytest
import torch
from anchored_layers import CPU, GRID, PLENTY, Run, draw, sdpa

from jenga import AnchorConfig, CarvedAttention, JengaConfig
from jenga.carving import ops, reference
from jenga.carving.attention import DENSE
from jenga.carving.operands import BlockLists, Residual
from jenga.carving.residuals import AnchorState, num_bytes, pack_lists, unpack_lists
from jenga.runtime import host_arena
from jenga.runtime.anchors import ANCHOR, MAX_LATE_STARTS, Anchors, is_anchor, relative_cost
from jenga.runtime.host_arena import HostArena
from jenga.runtime.residual_store import Budget, ResidualStore, budget_for


@pytest.fixture(params=["reference", "native"])
def backend(request) -> str:
    if request.param == "native" and not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)
    return request.param


def backends_of(results) -> list[str]:
    return [result.backend for result in results]


# --- when -------------------------------------------------------------------------------------------------------------


def test_anchors_are_staggered_and_all_at_the_first_step():
    rows = [[is_anchor(layer, step, 4) for step in range(9)] for layer in range(4)]
    assert all(row[0] for row in rows)
    assert [[step for step in range(1, 9) if row[step]] for row in rows] == [[4, 8], [3, 7], [2, 6], [1, 5]]
    assert [is_anchor(3, step, 0) for step in range(9)] == [True] + [False] * 8


def test_cost_is_that_of_the_published_table():
    """Design figures: 30 steps, 5 % kept and tail 64, distance 8: .220; 10 %, distance 4: .391. At 6 steps: .282."""
    tail = 1 / 64
    assert relative_cost(30, 32, 8, 0.05 + tail) == pytest.approx(0.220, abs=0.005)
    assert relative_cost(30, 32, 4, 0.10 + tail) == pytest.approx(0.391, abs=0.005)
    assert relative_cost(6, 32, 0, 0.10 + tail) == pytest.approx(0.282, abs=0.001)


def test_a_run_follows_the_schedule(backend):
    run = Run(backend=backend)
    qkv = draw()
    rows = [backends_of(run.step(qkv, layers=4)) for _ in range(6)]
    anchors = [[name == ANCHOR for name in row] for row in rows]
    assert anchors == [[is_anchor(layer, step, 4) for layer in range(4)] for step in range(6)]
    assert run.dense_calls == sum(map(sum, anchors))


# --- what -------------------------------------------------------------------------------------------------------------


def test_an_anchor_returns_the_dense_output(backend):
    qkv = draw()
    result = Run(backend=backend).step(qkv)[0]
    assert torch.equal(result.out, sdpa(*qkv)) and result.kept_share == 1.0 and result.lse is None


@pytest.mark.parametrize(("bits", "steps_of_code"), [(16, 0), (8, 127), (4, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_input_again_gives_the_dense_output_within_half_a_code(backend, dtype, bits, steps_of_code):
    qkv = draw(batch=2, dtype=dtype)
    run = Run(AnchorConfig(4, bits), backend=backend)
    dense, restored = run.step(qkv)[0].out.float(), run.step(qkv)[0].out.float()
    carved = run.carved(*qkv, GRID).out.float()
    missed = (dense - carved).abs()
    unit = torch.finfo(torch.bfloat16).eps / 2
    half_a_code = missed.amax(-1, keepdim=True) / steps_of_code / 2 if steps_of_code else unit * missed
    rounding = torch.finfo(dtype).eps * (carved.abs() + restored.abs())
    assert (missed > 0.01).any()
    assert ((restored - dense).abs() <= 1.01 * half_a_code + rounding).all()


def test_between_anchors_lists_are_reused_and_the_residual_is_added(backend):
    """Another input at the second step: its output is carving with the first step's lists plus the first residual."""
    first, second = draw(seed=1), draw(seed=2)
    run = Run(AnchorConfig(4, 16), backend=backend)
    run.step(first)
    result = run.step(second)[0]
    of_first, own = run.carved(*first, GRID), run.carved(*second, GRID)
    assert torch.equal(result.lists.index, of_first.lists.index)
    assert torch.equal(result.lists.count, of_first.lists.count)
    assert not torch.equal(result.lists.index, own.lists.index)
    residual = (sdpa(*first) - of_first.out).to(torch.bfloat16).float()
    given = run.carved(*second, GRID, lists=of_first.lists, tail_bias=of_first.tail_bias).out
    torch.testing.assert_close(result.out, given + residual, rtol=0, atol=1e-5)
    assert result.kept_share == of_first.kept_share


def test_bits_cost_what_they_say():
    for bits in (4, 8, 16):
        run = Run(AnchorConfig(4, bits), backend="reference")
        run.step(draw(head_dim=128))
        state = run.anchored._store.get(((0, ("cond", "one")),))
        held = sum(x.numel() * x.element_size() for x in state.tensors)
        assert held == num_bytes(585, 2, 128, 5, 10, 10, bits) == run.anchored._store.used().device


@pytest.mark.parametrize("counts", ["selected", "ragged", "empty"])
def test_lists_survive_the_bitset(counts):
    q, k, v = draw(batch=2, heads=3)
    config = JengaConfig(density=0.3, top_p=0.5 if counts == "ragged" else 0.0, backend="reference")
    lists = CarvedAttention(config)(q, k, v, GRID).lists
    if counts == "empty":
        lists = BlockLists(torch.full_like(lists.index, -1), torch.zeros_like(lists.count))
    bits = pack_lists(lists, 10)
    assert bits.shape == (2, 3, 5, 2) and bits.dtype == torch.uint8
    again = unpack_lists(bits, 10, lists.index.shape[3])
    assert torch.equal(again.index, lists.index) and torch.equal(again.count, lists.count)
    assert again.index.dtype == again.count.dtype == torch.int32


def test_flex_adds_the_residual_like_the_reference():
    from jenga.carving import flex

    q, k, v = draw(heads=1, head_dim=16)
    carved = CarvedAttention(JengaConfig(backend="reference"))
    plan = carved._plan(GRID, q.shape[2], 0, CPU)
    blocks = reference.prepare_blocks(q, k, v, plan.layout)
    cells = plan.layout.cells(plan.num_video)
    lists = reference.select_blocks(blocks.q_means, blocks.k_means, None, cells, 3, 0.0, 0.25)
    residual = reference.pack_residual(v, q, 4)
    arguments = (q, blocks, lists, 0.25)
    plain, added = flex.block_sparse_attention(*arguments)[0], flex.block_sparse_attention(*arguments, residual)[0]
    torch.testing.assert_close(added, reference.block_sparse_attention(*arguments, residual)[0], rtol=0, atol=1e-5)
    assert not torch.allclose(added, plain, atol=0.1)


# --- conditionings, and what drops what is kept -----------------------------------------------------------------------


def test_conditionings_are_kept_apart_in_one_batch_or_two(backend):
    """Made in a batch [cond, uncond], used in the other order, then one by one: always the right residual."""
    run = Run(AnchorConfig(0, 16), backend=backend)
    both = draw(batch=2)
    dense = sdpa(*both)
    run.step(both, keys=("cond", "uncond"))
    swapped = run.step([x.flip(0) for x in both], keys=("uncond", "cond"))[0]
    torch.testing.assert_close(swapped.out, dense.flip(0), rtol=0, atol=0.02)
    alone = run.step([x[:1] for x in both], keys=("cond",))[0]
    other = run.step([x[1:] for x in both], keys=("uncond",), again=True)[0]
    torch.testing.assert_close(torch.cat([alone.out, other.out]), dense, rtol=0, atol=0.02)
    assert run.dense_calls == 1


def test_each_conditioning_may_be_a_batch_itself(backend):
    run = Run(AnchorConfig(0, 16), backend=backend)
    four = draw(batch=4)
    run.step(four, keys=("cond", "uncond"))
    result = run.step([x.roll(2, 0) for x in four], keys=("uncond", "cond"))[0]
    torch.testing.assert_close(result.out, sdpa(*four).roll(2, 0), rtol=0, atol=0.02)
    assert run.dense_calls == 1


def test_steps_are_counted_for_each_conditioning():
    """Two model calls an evaluation are one step for each of the two, not two steps."""
    run = Run(AnchorConfig(distance=4))
    qkv = draw()
    rows = []
    for _ in range(5):
        rows.append(run.step(qkv, keys=("cond",)) + run.step(qkv, keys=("uncond",), again=True))
    assert [backends_of(row) == [ANCHOR, ANCHOR] for row in rows] == [True, False, False, False, True]


def test_what_was_kept_for_another_shape_is_not_used_and_goes():
    run = Run()
    qkv = draw()
    backends = [run.step(qkv, shape=shape)[0].backend for shape in ("one", "one", "two", "two", "one", "one")]
    assert [backend == ANCHOR for backend in backends] == [True, False, True, False, True, False]
    assert {key[1] for key in run.anchored._store._places} == {("cond", "one")}


def test_two_shapes_in_one_evaluation_are_kept_beside_each_other():
    """Prompts of unlike length under guidance, context windows of unlike length: each call has its own steps."""
    run = Run(AnchorConfig(distance=0))
    qkv = draw()
    for _ in range(4):
        run.step(qkv, shape="short")
        run.step(qkv, shape="long", again=True)
    assert run.dense_calls == 2


def test_conditionings_that_never_come_again_are_turned_away_after_a_few_steps():
    """Context windows that move: an anchor for each would be dense and carved at every step, slower than dense."""
    run = Run(AnchorConfig(distance=0))
    qkv = draw()
    backends = []
    for window in range(6):
        backends += backends_of(run.step(qkv, keys=(window,)) + run.step(qkv, keys=("always",), again=True))
    anchors = [backend == ANCHOR for backend in backends]
    assert anchors[::2] == [True] * (1 + MAX_LATE_STARTS) + [False] * (5 - MAX_LATE_STARTS)
    assert anchors[1::2] == [True] + [False] * 5  # those that do recur keep theirs
    alone = run.alone(*qkv, GRID).out
    assert torch.equal(run.step(qkv, keys=(7,))[0].out, alone) and run.anchored.turned_away


def test_a_new_conditioning_is_anchored_and_the_old_one_forgotten():
    run = Run(AnchorConfig(distance=0))
    qkv = draw()
    assert [run.step(qkv, keys=(key,))[0].backend for key in "aabb"] == [ANCHOR, "reference", ANCHOR, "reference"]
    assert {key[1][0] for key in run.anchored._store._places} == {"b"}
    assert run.step(qkv, keys=("a",))[0].backend == ANCHOR


def test_a_change_of_mask_drops_its_conditioning():
    run = Run(AnchorConfig(distance=0))
    qkv = draw(batch=2, tokens=GRID.num_tokens + 8)
    mask = torch.ones(2, GRID.num_tokens + 8, dtype=torch.bool)
    other = mask.clone()
    other[1, -1] = False
    masks = (mask, mask.clone(), other, other, None)
    anchors = [run.step(qkv, keys=("cond", "uncond"), mask=m)[0].backend == ANCHOR for m in masks]
    assert anchors == [True, False, True, False, True]


def test_a_masked_video_stays_dense_and_keeps_nothing():
    run = Run()
    run.carved = CarvedAttention(JengaConfig(backend="reference"))
    mask = torch.ones(1, GRID.num_tokens, dtype=torch.bool)
    mask[0, 3] = False
    assert backends_of(run.step(draw(), mask=mask) + run.step(draw(), mask=mask)) == [DENSE, DENSE]
    assert run.dense_calls == 0


def test_lists_and_residuals_of_another_shape_are_refused(backend):
    carved, one, two = CarvedAttention(JengaConfig(backend=backend)), draw(), draw(batch=2)
    result = carved(*two, GRID)
    with pytest.raises(
        ValueError, match=re.escape("lists must be for [B, H, query blocks] = (1, 2, 5), got (2, 2, 5)")
    ):
        carved(*one, GRID, lists=result.lists)
    residual = carved.pack_residual(sdpa(*two), result, 4)
    with pytest.raises(ValueError, match=re.escape("residual must be for [B, S, H] = (1, 585, 2), got (2, 585, 2)")):
        carved(*one, GRID, residual=residual)


def test_nothing_is_kept_after_close():
    run = Run()
    run.step(draw())
    store = run.anchored._store
    run.anchored.close()
    assert store.used() == Budget(0, 0) and not store._device._states and run.anchored.describe() == ""


# --- memory -----------------------------------------------------------------------------------------------------------


def test_layers_without_room_carve_alone_and_it_is_said(backend):
    size = num_bytes(585, 2, 64, 5, 10, 10, 4)
    run = Run(AnchorConfig(4), Budget(2 * size), backend=backend)
    qkv = draw()
    run.step(qkv, layers=5)
    results = run.step(qkv, layers=5)
    alone = run.alone(*qkv, GRID).out
    assert run.dense_calls == 2
    assert [torch.equal(result.out, alone) for result in results] == [False, False, True, True, True]
    assert "3 of 5 layers carve without anchors: the budget of 0 MiB is full" in run.anchored.describe()


def test_a_batch_without_room_for_all_its_parts_keeps_none_of_them():
    """Else the part that was kept would be used, long stale, when it comes alone."""
    size = num_bytes(585, 2, 64, 5, 10, 10, 4)
    run = Run(AnchorConfig(0), Budget(size))
    pair, one = draw(batch=2), [x[:1] for x in draw(batch=2)]
    names = [run.step(one)[0].backend, run.step(pair, keys=("cond", "uncond"))[0].backend, run.step(one)[0].backend]
    assert names == [ANCHOR, "reference", ANCHOR]


def test_what_the_device_cannot_hold_goes_to_the_host_and_comes_back():
    """The host tier on a CPU copies without a stream; the bookkeeping is the same."""
    size = num_bytes(585, 2, 64, 5, 10, 10, 4)
    run, all_on_device = (Run(AnchorConfig(4), budget) for budget in (Budget(size, 2 * size), PLENTY))
    for step in range(6):
        qkv = draw(seed=step)
        results = zip(run.step(qkv, layers=4), all_on_device.step(qkv, layers=4), strict=True)
        assert [torch.equal(a.out, b.out) for a, b in results] == [True, True, True, False]
    assert run.anchored._store.used() == Budget(size, 2 * size)
    assert "in host memory: the budget on cpu is full; 1 of 4 layers carve without anchors" in run.anchored.describe()


def test_the_budget_is_what_was_asked_for_or_a_share_of_what_is_free():
    total = psutil.virtual_memory().total
    assert budget_for(CPU, 12345) == Budget(12345, 0)
    automatic = budget_for(CPU, None)
    assert budget_for(CPU, None, sharers=8).device < automatic.device / 4
    assert 0 < automatic.device < total // 2 and automatic.host == 0


def test_a_place_that_is_given_back_can_be_had_again():
    store = ResidualStore(CPU, Budget(100))
    assert store.reserve(["a", "b"], 50) and not store.reserve(["c"], 1) and store.reserve(["a", "b"], 50)
    store.drop(["a", "unknown"])
    assert store.used() == Budget(50, 0) and store.reserve(["c"], 50) and not store.reserve(["a"], 1)


def test_what_leaves_a_full_device_lies_in_host_memory_after():
    """What an anchor found is moved, not lost: no layer is dense before its turn. Without host memory it is lost, and
    the layer carves alone; nothing is freed a second time.
    """
    kept = Run(AnchorConfig(0, 16), PLENTY)
    expected = [kept.step(draw(seed=step))[0].out for step in range(4)]
    for host in (1 << 20, 0):
        run = Run(AnchorConfig(0, 16), Budget(1 << 20, host))
        assert not run.anchored.leave_device()
        found = [run.step(draw(seed=step))[0].out for step in range(2)]
        assert run.anchored.leave_device() and not run.anchored.leave_device()
        if not host:
            expected[2:] = [run.alone(*draw(seed=step), GRID).out for step in (2, 3)]
        found += [run.step(draw(seed=step))[0].out for step in (2, 3)]
        assert all(map(torch.equal, found, expected)) and run.dense_calls == 1
        used = run.anchored._store.used()
        assert used.device == 0 and bool(used.host) == bool(host)


def test_a_model_call_that_is_made_once_more_is_no_further_step():
    run = Run(AnchorConfig(4))
    qkv = draw()
    run.step(qkv)
    for _ in range(3):
        run.step(qkv)
        assert run.anchored.begin(("cond",), run.evaluation, "one").step == run.evaluation - 1
    assert run.step(qkv)[0].backend == ANCHOR


class Locks:
    """Stands for the driver: which slabs are page-locked."""

    def __init__(self, most: int = 1 << 40):
        self.sizes: list[int] = []
        self.most = most

    def lock(self, memory: torch.Tensor) -> bool:
        if sum(self.sizes) + memory.numel() > self.most:
            return False
        self.sizes.append(memory.numel())
        return True

    def unlock(self, memory: torch.Tensor) -> None:
        self.sizes.remove(memory.numel())

    def arena(self, limit: int) -> HostArena:
        return HostArena(limit, self.lock, self.unlock)


def test_host_memory_is_locked_in_slabs_counted_as_it_is_and_freed_with_the_run(monkeypatch):
    monkeypatch.setattr(host_arena, "SLAB_BYTES", 1000)
    locks = Locks()
    arena = locks.arena(2500)
    places = arena.take(2, 299)
    assert [place.numel() for place in places] == [300, 300] and len({place.data_ptr() for place in places}) == 2
    assert arena.used == sum(locks.sizes) == 900  # three places: 299 bytes three times take no 512 each
    arena.give_back(places.pop())
    assert len(arena.take(2, 300)) == 2 and arena.used == 900
    assert arena.take(6, 300) is None and arena.take(5, 300) is not None
    assert arena.used == sum(locks.sizes) == 2400 <= arena.limit
    arena.close()
    assert locks.sizes == [] and arena.used == 0


def test_host_memory_of_a_run_that_is_dropped_is_unlocked_too():
    locks = Locks()
    arena = locks.arena(1 << 20)
    arena.take(1, 100)
    assert locks.sizes
    del arena
    gc.collect()
    assert locks.sizes == []


def test_a_system_that_locks_no_more_gives_plain_memory_and_is_not_asked_again(monkeypatch):
    monkeypatch.setattr(host_arena, "SLAB_BYTES", 1000)
    locks = Locks(most=1500)
    arena = locks.arena(5000)
    assert len(arena.take(1, 1000)) == 1 and arena.unlocked == 0
    assert len(arena.take(1, 1000)) == 1 and arena.unlocked == 1000
    locks.most = 1 << 20
    assert len(arena.take(1, 1000)) == 1 and (arena.used, arena.unlocked) == (3000, 2000)
    assert locks.sizes == [1000]
    arena.close()
    assert locks.sizes == [] and (arena.used, arena.unlocked) == (0, 0)


def test_memory_that_is_not_page_locked_is_said(monkeypatch):
    locks = Locks(most=0)
    monkeypatch.setattr(HostArena, "for_device", lambda device, limit: locks.arena(limit))
    run, on_device = (Run(AnchorConfig(4), budget) for budget in (Budget(0, 1 << 30), PLENTY))
    for seed in range(3):
        results = [one.step(draw(seed=seed), layers=3) for one in (run, on_device)]
        assert all(torch.equal(a.out, b.out) for a, b in zip(*results, strict=True))
    assert "; the system page-locks no more, so 256 MiB come and go slowly" in run.anchored.describe()
    assert "page-locks" not in on_device.anchored.describe()


def test_states_in_host_memory_take_no_more_than_their_places(backend):
    """4, 8 and 16 bits, and lists of an odd number of bytes: all of a state lies in its place."""
    for bits in (4, 8, 16):
        size = num_bytes(585, 3, 64, 5, 10, 10, bits)
        run, on_device = (Run(AnchorConfig(0, bits), budget, backend) for budget in (Budget(0, 2 * size + 8), PLENTY))
        for seed in range(2):
            results = [one.step(draw(heads=3, seed=seed), layers=2) for one in (run, on_device)]
            assert all(torch.equal(a.out, b.out) for a, b in zip(*results, strict=True))
        assert run.dense_calls == 2 and run.anchored._store.used().host <= 2 * size + 8


def test_a_place_that_another_thread_dropped_keeps_nothing():
    store = ResidualStore(CPU, Budget(100))
    store.reserve(["a"], 50)
    store.drop(["a"])
    codes = torch.zeros(1, 1, 1, 4, dtype=torch.int8)
    store.put(
        ("a",), AnchorState(Residual(codes, torch.ones(1, 1, 1)), torch.zeros(1, 1, 1, 1, dtype=torch.uint8), 7, 3)
    )
    assert not store.has(("a",)) and store.used() == Budget(0, 0)


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": 1}, "distance must be 0 or an integer of at least 2, got 1"),
        ({"distance": -2}, "distance must be 0 or an integer of at least 2, got -2"),
        ({"residual_bits": 5}, "residual_bits must be one of 4, 8, 16, got 5"),
        ({"density": 0.0}, "density must be None or in (0, 1], got 0.0"),
        ({"min_steps": 1.5}, "min_steps must be an integer of at least 0, got 1.5"),
        ({"memory": -1}, "memory must be None or bytes, at least 0, got -1"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError) as raised:
        AnchorConfig(**options)
    assert str(raised.value) == f"AnchorConfig: {message}"


def test_two_threads_on_one_device_begin_an_evaluation_together():
    anchors, steps = Anchors(AnchorConfig(), torch.device("cpu")), {"a": [], "b": []}
    together, interval = threading.Barrier(2), sys.getswitchinterval()

    def work(conditioning: str):
        for evaluation in range(500):
            together.wait()
            steps[conditioning].append(anchors.begin([conditioning], evaluation, "shape").step)

    threads = [threading.Thread(target=work, args=(conditioning,)) for conditioning in steps]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert steps == {"a": list(range(500)), "b": list(range(500))}
