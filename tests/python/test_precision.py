"""JengaConfig.precision: who has it, what is said where nobody has, and what a run that has it keeps exact."""

import pytest
import torch
from oracles import relative_error
from stand_ins import tensor_on

from jenga import AnchorConfig, CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import constraints, ops, reference, self_test
from jenga.carving.dispatch import Backends, PrecisionUnavailable
from jenga.carving.quantise import PRECISIONS
from jenga.runtime.anchors import Anchors
from jenga.runtime.call import AttentionInput
from jenga.runtime.layout import TokenLayout
from jenga.runtime.session import attend_anchored

GRID = TokenGrid(3, 12, 12)


def draw(dtype=torch.float32, head_dim: int = 32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 2, GRID.num_tokens, head_dim, generator=generator).to(dtype) for _ in range(3)]


@pytest.mark.parametrize("backend", ["auto", "native", "flex"])
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_what_nobody_has_is_refused_with_the_remedy(backend, precision):
    attention = CarvedAttention(JengaConfig(precision=precision, backend=backend))
    with pytest.raises(PrecisionUnavailable) as error:
        attention(*draw(), GRID)
    words = str(error.value)
    assert words.startswith("carved_attention: precision must be one that a backend has here, got " + precision)
    assert "take precision auto or 16-bit, or backend reference" in words
    if backend != "flex" and ops.native_status().cpu:
        assert f"native_cpu: precision must be 16-bit, got {precision}" in words


@pytest.mark.parametrize(("precision", "limit"), [("int8", 0.016), ("fp8", 0.05)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_reference_has_it_by_name(precision, limit, dtype):
    q, k, v = draw(dtype)
    exact = CarvedAttention(JengaConfig(backend="reference"))(q, k, v, GRID)
    result = CarvedAttention(JengaConfig(precision=precision, backend="reference", strict=True))(q, k, v, GRID)
    assert (result.backend, result.reason, result.precision) == ("reference", "", precision)
    assert result.out.dtype == dtype and exact.precision == "16-bit"
    assert torch.equal(result.lists.index, exact.lists.index), "cells are compared in 16 bits"
    assert 1e-4 < relative_error(result.out, exact.out) <= limit + 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("precision", "head_dim", "expected"),
    [
        ("16-bit", 40, None),
        ("int8", 128, None),
        ("int8", 48, None),
        ("int8", 40, "precision must be 16-bit for head dims that are no multiple of 16 up to 128, got int8 for 40"),
        ("int8", 256, "precision must be 16-bit for head dims that are no multiple of 16 up to 128, got int8 for 256"),
        (
            "fp8",
            128,
            "precision must be 16-bit or int8 for compute capabilities other than 8.9, 9.0 and 12, got fp8 on 8.6",
        ),
        ("fp8", 64, "precision must be 16-bit for head dims other than 128, got fp8 for 64"),
    ],
)
def test_who_takes_what_on_a_gpu(monkeypatch, precision, head_dim, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    q = tensor_on("cuda", torch.float16, head_dim)
    refusal = constraints.refusal("native_cuda", q, precision)
    assert (None if refusal is None else str(refusal)) == expected


def test_cards_with_e4m3_products_take_fp8(monkeypatch):
    q = tensor_on("cuda", torch.bfloat16, 128)
    for capability, taken in (
        ((9, 0), True),
        ((8, 9), True),
        ((10, 0), False),
        ((12, 1), True),
        ((8, 0), False),
        ((8, 6), False),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, x=capability: x)
        assert (constraints.refusal("native_cuda", q, "fp8") is None) == taken


def on_a_gpu(tokens: int = 16_384, head_dim: int = 128, dtype=torch.bfloat16):
    return tensor_on("cuda", dtype, head_dim, tokens)


@pytest.fixture
def backends_of(gpu):
    """backends_of(capability): of such a GPU, with the native library and without Triton."""

    def made(capability) -> Backends:
        gpu(capability, triton=False)
        return Backends(ops.NativeStatus(True, True, ""))

    return made


@pytest.mark.parametrize(
    ("capability", "q", "precision"),
    [
        ((9, 0), on_a_gpu(), "fp8"),
        ((9, 0), on_a_gpu(dtype=torch.float16), "fp8"),
        ((9, 0), on_a_gpu(tokens=16_383), "16-bit"),  # preparation costs more than attention gains
        ((9, 0), on_a_gpu(head_dim=64), "16-bit"),
        ((8, 9), on_a_gpu(), "16-bit"),  # nobody has timed it there
        ((12, 0), on_a_gpu(), "16-bit"),
        ((8, 0), on_a_gpu(), "16-bit"),
    ],
)
def test_auto_is_8_bits_where_they_pay(backends_of, capability, q, precision):
    assert backends_of(capability).choose("auto", q, "auto") == ("native_cuda", precision, "")
    assert backends_of(capability).choose("native", q, "auto") == ("native_cuda", precision, "")


def test_auto_is_16_bit_by_other_backends(backends_of):
    for requested in ("flex", "reference"):
        assert backends_of((9, 0)).choose(requested, on_a_gpu(), "auto").precision == "16-bit"
    without = Backends(ops.NativeStatus(True, False, "no CUDA library"))
    assert without.choose("auto", on_a_gpu(), "auto")[:2] == ("reference", "16-bit")
    assert without.choose("auto", on_a_gpu(), "auto").reason.count("no CUDA library") == 1


def test_auto_is_16_bit_where_the_self_test_of_8_fails_and_says_so(backends_of, monkeypatch):
    backends = backends_of((9, 0))
    monkeypatch.setattr(self_test, "failure", lambda *asked: "self-test failed" if asked[-1] == "fp8" else "")
    chosen = backends.choose("auto", on_a_gpu(), "auto")
    assert chosen == ("native_cuda", "16-bit", "native_cuda in fp8: self-test failed")
    with pytest.raises(PrecisionUnavailable, match="native_cuda: self-test failed"):
        backends.choose("auto", on_a_gpu(), "fp8")


def test_what_fails_in_8_bits_is_tried_in_16(backends_of):
    backends, tried, told = backends_of((9, 0)), [], []

    def call(_operators, precision: str) -> str:
        tried.append(precision)
        if precision == "fp8":
            raise RuntimeError("launch failed")
        return "out"

    for _ in range(2):
        found, choice = backends.run("auto", on_a_gpu(), call, lambda *words: told.append(words), "auto")
        reason = "native_cuda in fp8: failed with RuntimeError: launch failed"
        assert found == "out" and choice == ("native_cuda", "16-bit", reason)
    assert tried == ["fp8", "16-bit", "16-bit"] and [words[0] for words in told] == [reason, reason]
    assert backends.choose("auto", on_a_gpu()) == ("native_cuda", "16-bit", "")


def test_the_published_method_is_in_16_bits():
    assert JengaConfig.published(0.8, 0.3).precision == "16-bit"
    assert JengaConfig.published(0.8, 0.3, precision="auto").precision == "auto"


def test_auto_is_16_bit_on_a_cpu():
    q, k, v = draw()
    auto, named = (CarvedAttention(JengaConfig(precision=name))(q, k, v, GRID) for name in ("auto", "16-bit"))
    assert torch.equal(auto.out, named.out) and auto.precision == named.precision == "16-bit"


def test_context_and_masks_are_taken():
    q, k, v = (torch.cat([x[:, :, :20], x], 2) for x in draw())
    mask = torch.ones(1, q.shape[2], dtype=torch.bool)
    mask[:, 11:20] = False
    k[:, :, 11:20] = v[:, :, 11:20] = torch.nan
    exact, rounded = (
        CarvedAttention(JengaConfig(precision=name, backend="reference", text_logit_bias=0.5))(
            q, k, v, GRID, video_start=20, text_range=(0, 11), kv_mask=mask
        )
        for name in ("16-bit", "int8")
    )
    assert rounded.out.isfinite().all() and relative_error(rounded.out, exact.out) < 0.016
    torch.testing.assert_close(rounded.lse, exact.lse, rtol=0, atol=0.05)


@pytest.mark.skipif(not ops.native_status().cpu, reason=ops.native_status().reason)
def test_a_backend_that_fails_leaves_none(monkeypatch):
    """No silent fallback: the error names what failed."""
    backends = Backends()
    monkeypatch.setitem(constraints.CONSTRAINTS, "native_cpu", constraints.CONSTRAINTS["reference"])
    monkeypatch.setattr(self_test, "failure", lambda *_: "self-test failed: dense out off by 1")
    with pytest.raises(PrecisionUnavailable, match="native_cpu: .*self-test failed: dense out off by 1"):
        backends.choose("auto", draw()[0], "int8")


@pytest.fixture
def reference_as_native(monkeypatch):
    """The self-test's operators are the reference's."""
    for name in ("prepare_blocks", "select_blocks", "block_sparse_attention"):
        monkeypatch.setattr(self_test, name, getattr(reference, name))
    self_test._failure.cache_clear()
    yield
    self_test._failure.cache_clear()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_self_test_passes_what_rounds_as_the_reference(reference_as_native, precision):
    assert self_test.failure(torch.device("cpu"), torch.bfloat16, 64, precision) == ""


def test_the_self_test_finds_a_lost_center(reference_as_native, monkeypatch):
    def without_center(*arguments):
        blocks = reference.prepare_blocks(*arguments)
        return blocks._replace(keys=blocks.keys._replace(center=torch.zeros_like(blocks.keys.center)))

    monkeypatch.setattr(self_test, "prepare_blocks", without_center)
    assert "lse off by" in self_test.failure(torch.device("cpu"), torch.bfloat16, 64, "int8")


def test_an_anchor_is_exact_and_its_residual_covers_the_rounding():
    config = JengaConfig(precision="int8", backend="reference", density=0.3)
    q, k, v = draw()
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    carved = CarvedAttention(config)
    anchors = Anchors(AnchorConfig(4, 16), torch.device("cpu"))
    inputs = AttentionInput(q, k, v, TokenLayout(GRID), 0, None, None, None)
    results = []
    for step in (0, 1):
        begun = anchors.begin(["prompt"], step, GRID)
        results.append(attend_anchored(anchors, begun, 0, inputs, config, config, lambda *_: carved, lambda: exact))
    anchors.close()
    assert torch.equal(results[0].out, exact)
    assert relative_error(results[1].out, exact) < 0.005, "same tensors, so that the residual is all that is missing"
    assert relative_error(carved(q, k, v, GRID).out, exact) > 0.05
