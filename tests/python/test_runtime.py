"""What a run counts and tells apart, and the way of one attention call through it, without a host."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from jenga import AnchorConfig, JengaConfig, TokenGrid
from jenga.carving.dispatch import PrecisionUnavailable
from jenga.carving.exact import outruns_torch
from jenga.report.report import Report
from jenga.runtime.call import AttentionInput, Block, ModelCall
from jenga.runtime.carved_call import CarvedCall
from jenga.runtime.layout import Placement, TokenLayout
from jenga.runtime.residual_store import Budget
from jenga.runtime.run import BlockNumbers, Run, StageState
from jenga.runtime.session import NOT_RECURRING, attend
from jenga.runtime.settings import CarvingSettings, parse_blocks

GRID = TokenGrid(3, 8, 16)  # 384 tokens
SETTINGS = CarvingSettings(JengaConfig(density=0.3, backend="reference"), min_tokens=0)


def draw(seed=0, tokens=GRID.num_tokens):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 2, tokens, 32, generator=generator) for _ in range(3)]


class Model:
    """Calls of one model in a run: what came out, and how often the host's own attention was asked."""

    def __init__(self, settings=SETTINGS, run=None, layout=TokenLayout(GRID), steps=8):  # noqa: B008 (frozen)
        self.settings, self.run, self.layout, self.steps = settings, run or Run(Report()), layout, steps
        self.dense_calls = 0

    def call(self, conditioning="prompt", blocks=(None,), seed=0, mask=None):
        """One model call of the present evaluation, with a self-attention call for each block."""
        keys = self.run.number_passes((conditioning,))
        call = ModelCall(keys, self.run.evaluation, self.layout, torch.tensor(0.5), self.steps)
        carved = CarvedCall.begin(self, self.settings, StageState(self.run), call)
        q, k, v = draw(seed)

        def dense():
            self.dense_calls += 1
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

        outputs = [attend(carved, block, q, k, v, mask, None, dense) for block in blocks]
        carved.name_missing_blocks()
        return outputs


def kept_shares(run) -> list[list]:
    run.close()
    return run.listener.kept_share_map()


def test_a_second_call_of_a_conditioning_in_one_evaluation_is_another_pass():
    run = Run()
    run.begin_evaluation()
    first, both, again = (run.number_passes(names) for names in (("a",), ("a", "b"), ("a",)))
    run.begin_evaluation()
    assert len({*first, *both, *again}) == 4 and run.number_passes(("a",)) == first and run.evaluation == 1


def test_an_extra_guidance_pass_leaves_the_anchors_of_the_first_alone():
    """Skip-layer guidance calls the model again with the same conditioning: both keep their own."""
    settings = CarvingSettings(SETTINGS.config, (AnchorConfig(0),), min_tokens=0)
    alone, guided = Model(settings), Model(settings)
    for step in range(4):
        for model in (alone, guided):
            model.run.begin_evaluation()
        expected = alone.call(blocks=(None, None), seed=step)
        found = guided.call(blocks=(None, None), seed=step)
        guided.call(blocks=(None,), seed=100 + step)  # a block is skipped
        assert all(map(torch.equal, found, expected))
    assert (alone.dense_calls, guided.dense_calls) == (2, 3)


def test_blocks_are_numbered_type_after_type_and_a_skipped_one_moves_no_other():
    numbers = BlockNumbers()
    double = [numbers.number(Block("double", index, 3)) for index in (0, 2)]  # 1 is skipped at first
    single = [numbers.number(Block("single", index)) for index in (0, 1)]
    assert (double, single, numbers.number(Block("double", 1, 3))) == ([0, 2], [3, 4], 1)


def test_dense_blocks_name_the_host_s_blocks_and_not_attention_calls():
    """A second self-attention in a block (VACE beside the main one) is a layer of its own and no block of its own."""
    settings = CarvingSettings(SETTINGS.config, dense_blocks=frozenset((1,)), min_tokens=0)
    model = Model(settings)
    model.run.begin_evaluation()
    with model.run.listener.evaluation(torch.device("cpu")):
        model.call(blocks=[Block("double", 0, 2), Block("double", 0, 2), Block("double", 1, 2)])
    assert [row[0] == 1.0 for row in kept_shares(model.run)] == [False, False, True]
    assert model.run.listener.choices == {"dense_blocks": 1}


def test_dense_blocks_that_the_model_does_not_have_are_named():
    for blocks, words in (("0, 2", []), ("1, 7", ["7"]), ("1-9999", ["3 to 9999"])):
        model = Model(dataclasses.replace(SETTINGS, dense_blocks=parse_blocks(blocks)))
        model.run.begin_evaluation()
        model.call(blocks=[Block("double", 0, 1), Block("single", 0, 2), Block("single", 1, 2)])
        expected = [f"dense_blocks names {named}: the model has blocks 0 to 2" for named in words]
        assert model.run.listener.summary()["notes"] == expected


def test_a_run_without_a_listener_computes_the_same():
    settings = CarvingSettings(SETTINGS.config, (AnchorConfig(3),), min_tokens=0)
    told, silent = Model(settings), Model(settings, Run())
    for step in range(5):
        for model in (told, silent):
            model.run.begin_evaluation()
        assert torch.equal(told.call(seed=step)[0], silent.call(seed=step)[0])


@pytest.mark.parametrize("floats", [False, True])
def test_a_mask_that_is_expanded_over_heads_and_queries_is_one_of_keys(floats):
    """So are masks of padding that an engine makes for all heads; one that is written out is not looked through."""
    keys = torch.arange(GRID.num_tokens)[None, None, None] < GRID.num_tokens - 5
    if floats:
        keys = torch.zeros(keys.shape).masked_fill(~keys, -torch.inf)
    model = Model(layout=TokenLayout(TokenGrid(3, 8, 15)))  # and 24 tokens of context
    (expected,) = model.call(mask=keys)
    (found,) = model.call(mask=keys.expand(1, 2, GRID.num_tokens, -1))
    assert torch.equal(found, expected) and not model.run.listener.fallbacks and model.dense_calls == 0
    model.call(mask=keys.repeat(1, 2, 1, 1))
    assert list(model.run.listener.fallbacks) == ["dense attention: an attention mask that is not one of padded keys"]


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    """Each has its part of what anchors may take of it, and the devices of a process share that."""
    asked = []
    monkeypatch.setattr("jenga.runtime.anchors.budget_for", lambda *given: asked.append(given) or Budget(1 << 20))
    settings = CarvingSettings(SETTINGS.config, (AnchorConfig(2),), min_tokens=0)
    model = Model(settings)
    model.run.sharers = 4
    model.run.begin_evaluation()
    model.call()
    assert asked == [(torch.device("cpu"), None, 4)]


def test_conditionings_that_do_not_recur_are_said():
    model = Model(CarvingSettings(SETTINGS.config, (AnchorConfig(0),), min_tokens=0))
    for window in range(5):
        model.run.begin_evaluation()
        model.call(conditioning=window)
    assert NOT_RECURRING in model.run.listener.notes
    strict = Model(CarvingSettings(JengaConfig(backend="reference", strict=True), (AnchorConfig(0),), min_tokens=0))
    with pytest.raises(RuntimeError, match="strict must not meet a fallback, got no anchors for conditionings"):
        for window in range(5):
            strict.run.begin_evaluation()
            strict.call(conditioning=window)


@pytest.mark.parametrize("times", [1, 2])
def test_attention_that_is_out_of_memory_gives_back_what_anchors_hold_before_it_is_dense(monkeypatch, times):
    """In host memory they go on, so one attempt more gives the same bits; after two the layer is dense."""
    monkeypatch.setattr("jenga.runtime.anchors.budget_for", lambda *_: Budget(1 << 30, 1 << 30))
    settings = CarvingSettings(SETTINGS.config, (AnchorConfig(0),), min_tokens=0)
    model, alone = Model(settings), Model(settings)
    carve, failures = AttentionInput.carve, []

    def scarce(self, carved, lists=None, residual=None, tail_bias=None):
        if residual is not None and model.run.evaluation == 2 and len(failures) < times:
            failures.append(None)
            raise torch.OutOfMemoryError("made by this test")
        return carve(self, carved, lists, residual, tail_bias)

    found, expected = [], []
    for step in range(4):
        for one, outs in ((model, found), (alone, expected)):
            one.run.begin_evaluation()
            with monkeypatch.context() as patch:
                if one is model:
                    patch.setattr(AttentionInput, "carve", scarce)
                outs.append(one.call(blocks=(None,) * 3, seed=step))
    same = [all(map(torch.equal, *pair)) for pair in zip(found, expected, strict=True)]
    repeated = "out of memory: anchors left the device, the attention call was repeated"
    if times == 1:
        assert all(same) and model.dense_calls == 3 and model.run.listener.fallbacks == {repeated: 1}
        (kept,) = model.run._anchors.values()
        assert (kept._store.used().device, kept.traffic.to_device > 0) == (0, True)
    else:
        assert same == [True, True, False, False] and torch.equal(
            found[2][0], torch.nn.functional.scaled_dot_product_attention(*draw(2))
        )
        assert model.run.listener.fallbacks == {repeated: 1, "dense attention: out of memory": 1}


def test_a_device_that_runs_out_of_memory_drops_its_own_anchors_alone():
    run = Run()
    here, there = (
        run.anchors("patch", AnchorConfig(2), device) for device in (torch.device("cpu"), torch.device("meta"))
    )
    for anchors in (here, there):
        anchors.begin(("a",), 0, "shape")
    run.drop_anchors(torch.device("cpu"))
    assert here.begin(("a",), 0, "shape").step == 0 and there.begin(("a",), 1, "shape").step == 1


def test_two_threads_of_one_run_keep_their_own():
    """Two halves of a model call on two devices, as ComfyUI's CFG split makes them; here both are the CPU."""
    settings = CarvingSettings(SETTINGS.config, (AnchorConfig(3),), min_tokens=0)
    shared = Run(Report())
    halves, alone = [[Model(settings, run) for _ in range(2)] for run in (shared, None)]
    with ThreadPoolExecutor(2) as threads:
        for step in range(6):
            shared.begin_evaluation()
            for model in alone:
                model.run.begin_evaluation()
            with shared.listener.evaluation(torch.device("cpu")):
                calls = [
                    threads.submit(model.call, blocks=(None,) * 3, seed=2 * step + half)
                    for half, model in enumerate(halves)
                ]
                found = [call.result() for call in calls]
            for half, model in enumerate(alone):
                expected = model.call(blocks=(None,) * 3, seed=2 * step + half)
                assert all(map(torch.equal, found[half], expected))
    assert sum(shared.listener.backends.values()) == 6 * 2 * 3


@pytest.mark.parametrize(
    ("layout", "tokens", "expected"),
    [
        (TokenLayout(GRID), 384, Placement(0, None)),
        (TokenLayout(GRID), 390, Placement(0, None)),
        (TokenLayout(GRID, before=4), 390, Placement(4, None)),
        (TokenLayout(GRID, before=4), 387, None),
        (TokenLayout(GRID, None, (0, 6), 6), 390, Placement(6, (0, 6))),
        (TokenLayout(GRID, None, (2, 3)), 390, Placement(6, (2, 5))),
        (TokenLayout(GRID, None, (0, 6)), 384, Placement(0, None)),
        (TokenLayout(GRID, 2, (387, None)), 390, Placement(2, (387, 390))),
        (TokenLayout(GRID, 2, (1, None)), 390, Placement(2, (1, 2))),
        (TokenLayout(GRID, text=(384, None)), 384, Placement(0, None)),
        (TokenLayout(GRID, text=(384, 0)), 390, Placement(0, None)),
        (TokenLayout(GRID, 2, (386, 3)), 390, Placement(2, (386, 389))),
        (TokenLayout(GRID, 2, (385, 3)), 390, Placement(2, None)),
    ],
)
def test_where_the_video_lies(layout, tokens, expected):
    assert layout.place(tokens) == expected


def test_a_sequence_that_cannot_hold_video_and_text_is_not_ours():
    for layout in (TokenLayout(GRID, None, (0, 6), least=6), TokenLayout(GRID, width=2 * 64)):
        model = Model(layout=layout)
        model.run.begin_evaluation()
        assert model.call() == [None] and model.dense_calls == 0


def test_what_is_asked_once_keeps_its_first_answer_and_no_failure():
    run, asked = Run(), []

    def fail():
        raise RuntimeError("not now")

    with pytest.raises(RuntimeError, match="not now"):
        run.once("what", fail)
    assert [run.once("what", lambda: asked.append(1)) for _ in range(3)] == [None] * 3 and asked == [1]
    assert Run().once("what", lambda: "another run") == "another run"


def test_devices_that_ask_at_a_time_get_one_answer():
    run, together = Run(), threading.Barrier(2)

    def ask(answer):
        def find():
            together.wait(timeout=10)  # both are asked before one is kept
            return answer

        return run.once("what", find)

    with ThreadPoolExecutor(2) as pool:
        answers = set(pool.map(ask, ("first", "second")))
    assert len(answers) == 1 and answers <= {"first", "second"}


@pytest.mark.parametrize("own", [False, True])
def test_an_anchor_by_our_own_kernel_is_exact_attention(device, own):
    """Where the device is one on which it is faster the host is not asked, and the error is one of rounding."""
    grid = TokenGrid(4, 23, 24)  # 2,208 tokens, with a ragged last block
    q, k, v = (torch.randn(1, 2, grid.num_tokens, 128, device=device, dtype=torch.bfloat16) for _ in range(3))
    run, asked = Run(Report()), []
    settings = CarvingSettings(JengaConfig(density=0.3), (AnchorConfig(0),), min_tokens=0)
    call = ModelCall(("prompt",), 0, TokenLayout(grid), torch.tensor(0.5), 8)
    carved = CarvedCall.begin("model", settings, StageState(run), call)
    carved.own_exact = own

    def dense():
        asked.append(1)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    out = attend(carved, None, q, k, v, None, None, dense)
    hopper = device == "cuda" and torch.cuda.get_device_capability(device)[0] == 9
    fast = own and (hopper or (device == "cpu" and outruns_torch("native_cpu", q)))
    exact = torch.nn.functional.scaled_dot_product_attention(*(x.double() for x in (q, k, v)))
    stock = (torch.nn.functional.scaled_dot_product_attention(q, k, v) - exact).norm()
    assert bool(asked) == (not fast) and (out - exact).norm() <= 2 * stock


def test_the_report_names_the_precision():
    model = Model(dataclasses.replace(SETTINGS, config=dataclasses.replace(SETTINGS.config, precision="int8")))
    model.run.begin_evaluation()
    model.call()
    model.run.close()
    assert dict(model.run.listener.backends) == {"reference in int8": 1}


def test_an_anchor_of_8_bits_is_an_anchor_in_the_report():
    config = dataclasses.replace(SETTINGS.config, precision="int8")
    model = Model(CarvingSettings(config, (AnchorConfig(2),), min_tokens=0))
    for step in range(4):
        model.run.begin_evaluation()
        model.call(seed=step)
    model.run.close()
    kinds = model.run.listener.backends
    assert kinds["dense"] == model.dense_calls and 0 < model.dense_calls < 4
    assert kinds["reference in int8"] == 4 - model.dense_calls


def test_a_precision_that_nobody_has_is_no_dense_call():
    config = dataclasses.replace(SETTINGS.config, precision="int8", backend="auto")
    model = Model(dataclasses.replace(SETTINGS, config=config))
    model.run.begin_evaluation()
    with pytest.raises(PrecisionUnavailable, match="take precision auto or 16-bit"):
        model.call()
    assert model.dense_calls == 0
