"""The heads of a call over several devices of one process: here each of them is the CPU under a name of its own."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from jenga import AnchorConfig, JengaConfig, TokenGrid
from jenga.carving import dispatch, ops
from jenga.carving.dispatch import Backends
from jenga.report.report import Report
from jenga.runtime import over_devices
from jenga.runtime.call import Block, ModelCall
from jenga.runtime.carved_call import CarvedCall
from jenga.runtime.devices import others_for, parse_devices
from jenga.runtime.head_split import share_heads
from jenga.runtime.host_tier import HostTier
from jenga.runtime.lane import copy_rows, packed
from jenga.runtime.layout import TokenLayout
from jenga.runtime.residual_store import Budget
from jenga.runtime.run import Run, StageState
from jenga.runtime.session import attend
from jenga.runtime.settings import CarvingSettings

GRID, TEXT, HEADS = TokenGrid(2, 8, 16), 6, 7
pytestmark = pytest.mark.skipif(not ops.native_status().cpu, reason="the native library is not installed")
CPU, SECOND, THIRD = (torch.device(name) for name in ("cpu", "cpu:1", "cpu:2"))
TWO, THREE = ("cpu", "cpu:1"), ("cpu", "cpu:1", "cpu:2")
# Not the reference: on some machines torch adds up a product of matrices in an order that the number of heads changes.
CONFIG = JengaConfig(density=0.3, backend="native")


def draw(seed: int, heads: int = HEADS) -> list[torch.Tensor]:
    """As a projection gives them: [B, S, H * D] seen as [B, H, S, D]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, GRID.num_tokens + TEXT, heads * 32)
    return [torch.randn(shape, generator=generator).unflatten(2, (heads, 32)).transpose(1, 2) for _ in range(3)]


def dense_of(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])


class Model:
    """A model whose calls have a self-attention for each block."""

    def __init__(self, devices=(), config=CONFIG, anchors=(), mask=None, run=None, **settings):
        self.settings = CarvingSettings(config, anchors, min_tokens=0, devices=devices, **settings)
        self.run, self.mask, self.dense_heads = run or Run(Report()), mask, []

    def call(self, step: int, blocks: int = 2, heads: int = HEADS) -> list[torch.Tensor]:
        layout = TokenLayout(GRID, text=(GRID.num_tokens, None))
        keys = self.run.number_passes(("prompt", "negative"))
        call = ModelCall(keys, self.run.evaluation, layout, torch.tensor(0.5), 8)
        carved = CarvedCall.begin(self, self.settings, StageState(self.run, text_logit_bias=0.0), call)
        return [self._attend(carved, Block("", index), draw(10 * step + index, heads)) for index in range(blocks)]

    def _attend(self, carved, block, tensors):
        def of_heads(q, k, v, mask):
            self.dense_heads.append(q.shape[1])
            return dense_of(q, k, v, mask)

        dense = lambda: of_heads(*tensors, self.mask)  # noqa: E731
        return attend(carved, block, *tensors, self.mask, None, dense, of_heads=of_heads)

    def steps(self, count: int, **arguments) -> list[torch.Tensor]:
        found = []
        for step in range(count):
            self.run.begin_evaluation()
            with self.run.listener.evaluation(CPU):
                found += self.call(step, **arguments)
        return found


def kept(*tokens_of_padding: int) -> torch.Tensor:
    mask = torch.ones(2, GRID.num_tokens + TEXT, dtype=torch.bool)
    for row, count in enumerate(tokens_of_padding):
        mask[row, mask.shape[1] - count :] = False
    return mask


@pytest.mark.parametrize(
    ("heads", "others", "pieces", "expected"),
    [
        (24, 1, 3, [(0, 12), (12, 15), (15, 21), (21, 24)]),
        (40, 1, 4, [(0, 20), (20, 23), (23, 30), (30, 37), (37, 40)]),
        (5, 1, 1, [(0, 3), (3, 5)]),
        (7, 2, 2, [(0, 3), (3, 4), (5, 6), (4, 5), (6, 7)]),
        (2, 2, 3, [(0, 1), (1, 2)]),
        (1, 3, 1, [(0, 1)]),
    ],
)
def test_every_head_has_one_share(heads, others, pieces, expected):
    devices = [torch.device("cuda", index) for index in range(1, 1 + others)]
    shares = share_heads(heads, torch.device("cuda:0"), devices, pieces)
    assert [(share.start, share.stop) for share in shares] == expected
    assert sorted(head for share in shares for head in range(share.start, share.stop)) == list(range(heads))
    assert [share.device.index for share in shares if share.start < expected[0][1]] == [0]
    assert {share.sharers for share in shares} == {1 + others}


CASES = {
    "alone": {},
    "anchors": {"anchors": (AnchorConfig(3),)},
    "mask": {"anchors": (AnchorConfig(2, residual_bits=16),), "mask": kept(0, 4)},
    "masked video": {"mask": kept(0, TEXT + 1)},
    "dense blocks": {"anchors": (AnchorConfig(3),), "dense_blocks": frozenset((1,)), "mask": kept(2, 0)},
    "amplified": {"anchors": (AnchorConfig(0),), "config": JengaConfig(0.3, backend="native", text_logit_bias=0.5)},
}


@pytest.mark.parametrize("devices", [TWO, THREE], ids=len)
@pytest.mark.parametrize("case", CASES)
def test_several_devices_give_what_one_gives(case, devices):
    one, several = Model(**CASES[case]), Model(devices, **CASES[case])
    assert all(map(torch.equal, several.steps(4), one.steps(4)))
    expected, found = one.run.listener, several.run.listener
    assert found.backends == expected.backends and found.fallbacks == expected.fallbacks
    assert found.choices == expected.choices
    assert f"heads over {', '.join(devices)}" in found.notes
    shares = [torch.tensor(report.kept_share_map()) for report in (found, expected)]
    torch.testing.assert_close(*shares)
    assert sum(several.dense_heads) == sum(one.dense_heads) and max(several.dense_heads, default=0) < HEADS
    assert [kept.num_heads for kept in found.kept_blocks.values()] == [HEADS] * len(expected.kept_blocks)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_anchors_in_8_bits_over_devices_say_the_precision_of_the_rest(precision):
    """Close to what one gives, not the same: of the reference, see CONFIG."""
    settings = {"anchors": (AnchorConfig(3),), "config": JengaConfig(0.3, backend="reference", precision=precision)}
    one, several = Model(**settings), Model(TWO, **settings)
    for found, expected in zip(several.steps(4), one.steps(4), strict=True):
        assert (found - expected).norm() < 1e-3 * expected.norm()
    assert several.run.listener.backends == {"dense": 4, f"reference in {precision}": 4}
    assert several.run.listener.choices == one.run.listener.choices and not several.run.listener.fallbacks


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_fewer_heads_than_devices(heads):
    one, several = Model(), Model(THREE)
    assert all(map(torch.equal, several.steps(1, heads=heads), one.steps(1, heads=heads)))


def test_what_is_kept_between_steps_lies_on_the_device_of_its_heads():
    model = Model(TWO, anchors=(AnchorConfig(0),))
    model.steps(2)
    states = {key[2]: anchors for key, anchors in model.run._anchors.items()}
    assert set(states) == {CPU, SECOND} and all(key[3] == CPU for key in model.run._anchors)
    heads = {
        device: sorted({state.residual.codes.shape[2] for state in anchors._store._device._states.values()})
        for device, anchors in states.items()
    }
    assert heads == {CPU: [4], SECOND: [1, 2]}  # 4 heads here, pieces of 2 and 1 there
    notes = [note for note in model.run.listener.notes if "residuals" in note]
    assert sorted(note.split(": ")[0] for note in notes) == ["cpu", "cpu:1"]


def test_memory_of_anchors_is_that_of_each_device():
    """A budget for one layer of home's heads: there one layer has a place; the other device counts for itself."""
    model = Model(TWO, anchors=(AnchorConfig(0, memory=1 << 20),))
    assert all(map(torch.equal, model.steps(1), Model(anchors=(AnchorConfig(0),)).steps(1)))
    stores = {key[2]: anchors._store for key, anchors in model.run._anchors.items()}
    for device in (CPU, SECOND):
        assert stores[device].budget.device == 1 << 20 and 0 < stores[device].used().device <= 1 << 20


def test_what_lies_in_host_memory_comes_ahead_on_each_device(monkeypatch):
    """A device that takes a layer's heads in pieces gets those of two layers ahead, and each piece its own."""
    budgets = {False: Budget(1 << 30), True: Budget(0, 1 << 30)}
    lines, bring = [], HostTier._bring

    def noted(self, keys):
        lines.append((self, keys[0][0]))
        return bring(self, keys)

    monkeypatch.setattr(HostTier, "_bring", noted)
    monkeypatch.setattr("jenga.runtime.host_tier.AHEAD_BYTES", 0)
    outputs = []
    for host in budgets:
        monkeypatch.setattr("jenga.runtime.anchors.budget_for", lambda *_, host=host: budgets[host])
        model = Model(TWO, anchors=(AnchorConfig(3),))
        outputs.append(model.steps(5))
    assert all(map(torch.equal, *outputs))
    for on in model.run._anchors.values():
        assert on._store.used().device == 0 and on.traffic.to_device
    tiers = {on._device: on._store._host for on in model.run._anchors.values()}
    ahead = {device: [layer for tier, layer in lines if tier is tiers[device]] for device in (CPU, SECOND)}
    # Step 1: both layers. Step 2: layer 0, layer 1 is an anchor. Step 3: layer 1. Step 4: both, and of step 5 layer 0.
    assert ahead[CPU] == [0, 1, 0, 1, 0, 1, 0]
    assert ahead[SECOND] == [layer for layer in ahead[CPU] for _ in range(2)]  # pieces of 2 heads and of 1


class Failing:
    """A CarvedAttention whose calls raise from one on."""

    def __init__(self, carved, error, counted, after):
        self._carved, self._error, self._counted, self._after = carved, error, counted, after

    def __getattr__(self, name):
        return getattr(self._carved, name)

    def __call__(self, *args, **kwargs):
        self._counted.append(1)
        if len(self._counted) > self._after:
            raise type(self._error)(*self._error.args)  # one that is raised keeps the frames of its run
        return self._carved(*args, **kwargs)


@pytest.fixture
def failing(monkeypatch):
    """failing(device, error, calls): the carving of that device raises the error from its call of that number on."""

    def start(device, error, after=0):
        counted, carved = [], Run.carved

        def replaced(self, config, on, home=None):
            found = carved(self, config, on, home)
            return found if on != device else Failing(found, error, counted, after)

        monkeypatch.setattr(Run, "carved", replaced)
        return counted

    return start


@pytest.mark.parametrize("anchors", [(), (AnchorConfig(3),)], ids=["alone", "anchors"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("no room"), "cpu:1 is out of memory"),
        (RuntimeError("CUDA error: an illegal memory access\nmore"), "cpu:1 failed with RuntimeError: CUDA error: an"),
    ],
)
def test_a_failing_device_leaves_the_run_on_one(failing, error, words, anchors):
    model = Model(TWO, anchors=anchors)
    counted = failing(SECOND, error, after=3)  # in the second layer, where it has the second piece
    found = model.steps(4)
    assert len(counted) == 4  # never asked again
    (reason, count), *others = model.run.listener.fallbacks.items()
    assert reason.startswith(f"all heads on cpu: {words}") and count == 1 and not others
    assert {key[2] for key in model.run._anchors} <= {CPU}
    if not anchors:
        assert all(map(torch.equal, found, Model().steps(4)))
    else:  # the layer that met the failure starts anew with an anchor, and the one before it does at the next step
        assert torch.equal(found[1], dense_of(*draw(1), None)) and torch.equal(found[2], dense_of(*draw(10), None))
    assert sum(model.run.listener.backends.values()) == 8


def test_a_failure_is_an_error_with_strict(failing):
    failing(SECOND, RuntimeError("broken"))
    model = Model(TWO, JengaConfig(0.3, backend="reference", strict=True))
    with pytest.raises(RuntimeError, match="strict must not meet a fallback, got all heads on cpu: cpu:1 failed"):
        model.steps(1)


def test_home_s_own_errors_stay_its_own(failing):
    failing(CPU, torch.OutOfMemoryError("no room"))
    model = Model(TWO)
    out = model.steps(1, blocks=1)[0]
    assert torch.equal(out, dense_of(*draw(0), None))
    assert model.run.listener.fallbacks == {"dense attention: out of memory": 1}


def test_a_device_with_another_backend_is_not_used(monkeypatch):
    choose = Backends.choose
    asked = []

    def second_is_slower(self, *arguments):
        asked.append(self)
        choice = choose(self, *arguments)
        return choice if self is asked[0] else choice._replace(backend="flex", reason="too old")

    monkeypatch.setattr(Backends, "choose", second_is_slower)
    reference = dispatch.implementation("reference")
    monkeypatch.setattr(dispatch, "implementation", lambda backend: reference)
    model = Model(TWO)
    assert all(map(torch.equal, model.steps(2), Model().steps(2)))
    assert list(model.run.listener.fallbacks) == ["all heads on cpu: cpu:1 runs flex and cpu native_cpu: too old"]


def test_a_device_with_another_precision_is_not_used(monkeypatch):
    """A Hopper takes fp8 by itself, an Ampere beside it 16 bits."""
    reference = dispatch.implementation("reference")
    monkeypatch.setattr(dispatch, "implementation", lambda backend: reference)
    wanted, choose, asked = Model().steps(2), Backends.choose, []

    def second_is_8_bit(self, *arguments):
        asked.append(self)
        choice = choose(self, *arguments)
        return choice if self is asked[0] else choice._replace(precision="fp8")

    monkeypatch.setattr(Backends, "choose", second_is_8_bit)
    model = Model(TWO)
    assert all(map(torch.equal, model.steps(2), wanted))
    assert list(model.run.listener.fallbacks) == ["all heads on cpu: cpu:1 runs native_cpu in fp8 and cpu native_cpu"]


def test_a_host_without_attention_of_some_heads_stays_on_one_device():
    model = Model(TWO)
    layout = TokenLayout(GRID)
    model.run.begin_evaluation()
    call = ModelCall(("prompt", "negative"), 0, layout, torch.tensor(0.5), 8)
    carved = CarvedCall.begin(model, model.settings, StageState(model.run), call)
    q, k, v = draw(0)
    out = attend(carved, None, q, k, v, None, None, lambda: dense_of(q, k, v, None))
    assert torch.equal(out, Model().steps(1)[0])
    assert model.run.listener.notes[1] == "all heads on cpu in calls that the host takes whole alone"


def test_threads_of_two_homes_share_nothing_on_a_third_device():
    run, anchors = Run(), AnchorConfig(2)
    for make in (lambda home: run.carved(CONFIG, THIRD, home), lambda home: run.anchors("patch", anchors, THIRD, home)):
        of_first, of_second, alone = make(CPU), make(SECOND), make(None)
        assert len({id(of_first), id(of_second), id(alone)}) == 3 and make(CPU) is of_first
    backends = {id(run.carved(CONFIG, THIRD, home)._backends) for home in (CPU, SECOND, None)}
    assert len(backends) == 3


def test_two_threads_of_one_run_over_several_devices():
    """Two model calls at once, as where each conditioning has a GPU; here both homes are the CPU."""
    shared = Run(Report())
    settings = {"anchors": (AnchorConfig(3),)}
    halves, alone = [Model(THREE, run=shared, **settings) for _ in range(2)], [Model(**settings) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        for step in range(5):
            for model in (halves[0], *alone):
                model.run.begin_evaluation()
            with shared.listener.evaluation(CPU):
                found = [threads.submit(model.call, 2 * step + half) for half, model in enumerate(halves)]
                found = [one.result() for one in found]
            for half, model in enumerate(alone):
                assert all(map(torch.equal, found[half], model.call(2 * step + half)))
    assert sum(shared.listener.backends.values()) == 5 * 2 * 2 and not shared.listener.fallbacks


def test_devices_as_a_user_writes_them():
    assert parse_devices("") == () and parse_devices(" auto ") == ("auto",)
    assert parse_devices("0, 1") == ("cuda:0", "cuda:1") and parse_devices("cpu,cpu:1") == ("cpu", "cpu:1")
    for text in ("0;1", "first", "0, auto", "-1"):
        with pytest.raises(ValueError, match="devices must be"):
            parse_devices(text)


def test_devices_that_this_machine_has(monkeypatch):
    assert others_for(CPU, ("cpu", "cpu:1")) == ((SECOND,), "")
    assert others_for(CPU, ("cpu",)) == ((), "cpu is the only device in the list")
    assert others_for(CPU, ("auto",)) == ((), "no other device that cpu can reach directly")
    assert others_for(CPU, ("cuda:0",)) == ((), "cuda:0 is not among cpu")
    first, *others = (torch.device("cuda", index) for index in range(3))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda home, other: other == 2)
    assert others_for(first, ("auto",)) == ((others[1],), "")
    assert others_for(first, ("cuda:1", "cuda:0", "cuda:2")) == (tuple(others), "")
    assert others_for(first, ("cuda:3",)) == ((), "cuda:3 is not among cuda:0, cuda:1, cuda:2")


@pytest.mark.parametrize(("devices", "told"), [(("auto",), "notes"), (("cuda:5",), "fallbacks")])
def test_devices_that_are_not_there_are_said_once(devices, told, monkeypatch):
    monkeypatch.setattr(over_devices, "AUTO_TOKENS", 0)
    model = Model(devices)
    assert all(map(torch.equal, model.steps(2), Model().steps(2)))
    (words,) = getattr(model.run.listener, told)
    assert words.startswith("all heads on cpu: ")
    if told == "fallbacks":
        strict = Model(devices, JengaConfig(0.3, backend="reference", strict=True))
        with pytest.raises(RuntimeError, match="got all heads on cpu: cuda:5 is not among cpu"):
            strict.steps(1)


def test_the_report_has_the_peak_of_the_other_device():
    model = Model(TWO)
    model.steps(2)
    model.run.close()
    (peak,) = model.run.listener.summary()["other_peaks"]
    assert peak["bytes"] > 0


def test_auto_leaves_short_calls_on_one_device(monkeypatch):
    monkeypatch.setattr(over_devices, "others_for", lambda home, wanted: ((SECOND,), ""))
    for least, expected in ((GRID.num_tokens, "heads over cpu, cpu:1"), (1000, "all heads on cpu in calls of fewer")):
        monkeypatch.setattr(over_devices, "AUTO_TOKENS", least)
        model = Model(("auto",))
        assert all(map(torch.equal, model.steps(1), Model().steps(1)))
        (note,) = model.run.listener.notes
        assert note.startswith(expected)


def test_devices_that_are_at_work_already_get_no_share_unless_named(monkeypatch):
    monkeypatch.setattr(over_devices, "AUTO_TOKENS", 0)
    for devices, expected in ((("auto",), ["all heads on cpu: at work"]), (TWO, ["heads over cpu, cpu:1"])):
        model = Model(devices)
        model.run.begin_evaluation()
        call = ModelCall(("prompt", "negative"), 0, TokenLayout(GRID), torch.tensor(0.5), 8)
        carved = CarvedCall.begin(model, model.settings, StageState(model.run), call)
        carved.occupied = "at work"
        model._attend(carved, None, draw(0))
        assert model.run.listener.notes == expected


def test_heads_are_packed_without_gaps_in_the_order_of_their_memory():
    q = draw(0)[0]
    part = packed(q[:, 2:5])
    assert torch.equal(part, q[:, 2:5]) and part.transpose(1, 2).is_contiguous()
    whole = torch.randn(1, 4, 6, 8)
    assert packed(whole[:, 1:3]).data_ptr() == whole[:, 1:3].data_ptr()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("head_dim", "skipped"), [(64, 0), (8, 0), (6, 0), (64, 1), (3, 5)])
def test_rows_are_copied_bit_by_bit_wherever_they_begin(dtype, head_dim, skipped):
    """Of random bits, some of which are NaN; rows of whole 16 bytes and others, from a start that is aligned or not."""
    size = torch.tensor([], dtype=dtype).itemsize
    bits = {2: torch.int16, 4: torch.int32}[size]
    numbers = torch.randint(torch.iinfo(bits).min, torch.iinfo(bits).max, (skipped + 2 * 5 * 4 * head_dim,), dtype=bits)
    source = numbers[skipped:].view(2, 5, 4, head_dim).transpose(1, 2)[:, 1:3]
    target = torch.zeros(2, 5, 6, head_dim, dtype=bits).transpose(1, 2)
    copy_rows(target.view(dtype)[:, 2:4], source.view(dtype))
    assert torch.equal(target[:, 2:4], source)
    assert not target[:, :2].any() and not target[:, 4:].any()
