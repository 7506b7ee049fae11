"""carved_attention from the outside: what it computes, what it refuses, what it falls back to and says."""

import math

import oracles
import pytest
import torch
import torch.nn.functional as F

import jenga
from jenga import CarvedAttention, JengaConfig, TokenGrid, carved_attention
from jenga.carving import curves, ops, reference
from jenga.carving.operands import BlockLists, CarvedLayout, PreparedBlocks

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
GRID = TokenGrid(5, 9, 13)  # 585 tokens: ragged for every block size


def usable(backend: str) -> None:
    """Skip where the native library is absent; the reference always runs."""
    if backend == "native" and not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)


@pytest.fixture(params=["reference", "native"])
def backend(request) -> str:
    usable(request.param)
    return request.param


def draw(tokens: int, batch=1, heads=2, head_dim=64, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, tokens, head_dim, generator=generator).to(dtype) for _ in range(3)]


def sdpa(q, k, v, mask=None, scale=None):
    """Exact (float64) attention, and torch's own in the dtype of q: the worse of two orders of the keys.

    One order alone is one draw of torch's rounding; its worst element varies by more than our distance to it.
    """
    exact = F.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), mask, scale=scale)
    flipped = None if mask is None else mask.flip(-1)
    plain = [
        F.scaled_dot_product_attention(q, k, v, mask, scale=scale).double(),
        F.scaled_dot_product_attention(q, k.flip(2), v.flip(2), flipped, scale=scale).double(),
    ]
    return exact, max(plain, key=lambda out: (out - exact).nan_to_num().abs().max())


def formula(q, k, v, grid, config, video_start=0, context_bias=None, forced=None, scale=None, last_share=1.0):
    """The whole method from float64 formulas: out and lse exact, and out by plain torch in the dtype of q.

    last_share: factor on the last means (the published method pads the last block with zeros and counts it as whole).
    """
    num_video, tokens = grid.num_tokens, q.shape[2]
    num_context = tokens - num_video
    raster = torch.arange(tokens, dtype=torch.int32)
    video = curves.curve_order(grid.t, grid.h, grid.w, config.curve) + video_start
    token_index = torch.cat([raster[:video_start], raster[video_start + num_video :], video])
    scale = q.shape[3] ** -0.5 if scale is None else scale
    tail = config.tail_block_size if config.compensation == "mean" else 0
    layout = CarvedLayout(token_index, num_context, 128, config.kv_block_size, tail, *config.score_cells)
    exact = oracles.prepare_blocks(q, k, v, layout, context_bias)
    means = [x.to(q.dtype) for x in (exact.q_means, exact.k_means)]
    for x in means:
        x[:, :, -1] *= last_share
    cells = layout.cells(num_video if last_share == 1 else num_video + -num_video % 128)
    kept = oracles.select_blocks(*means, forced, cells, config.min_blocks(num_video), config.top_p, scale)
    index = torch.where(kept, torch.arange(kept.shape[-1]), kept.shape[-1]).sort(-1).values.int()
    lists = BlockLists(torch.where(index < kept.shape[-1], index, -1), kept.sum(-1))
    if config.weighs_tail:
        sizes = (num_video, layout.k_cell_size, tail)
        exact = exact._replace(tail_bias=oracles.tail_bias(*means, *sizes, scale))
    rounded = PreparedBlocks(*(x.to(q.dtype) for x in exact[:6]), *exact[6:])
    results = [
        oracles.block_sparse_attention(q, parts, lists, scale, plain=plain)
        for parts, plain in ((exact, False), (rounded, True))
    ]
    return results[0], results[1], kept


# --- what it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("compensation", ["mean", "none"])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (17, 0), (0, 140), (20, 31)])
def test_everything_kept_is_dense_attention(backend, dtype, compensation, before, after):
    q, k, v = draw(before + GRID.num_tokens + after, dtype=dtype)
    config = JengaConfig(density=1.0, compensation=compensation, backend=backend, strict=True)
    result = CarvedAttention(config)(q, k, v, GRID, before)
    oracles.assert_as_exact_as_torch(result.out, *sdpa(q, k, v))
    assert result.kept_share == 1.0
    logits = q.double() @ k.double().mT / math.sqrt(q.shape[3])
    torch.testing.assert_close(result.lse.double(), logits.logsumexp(-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 1, 3), (7, 1, 1), (1, 8, 16), (2, 7, 9), (3, 16, 16)])
@pytest.mark.parametrize("curve", ["gilbert3d", "gilbert2d_sliced", "raster"])
def test_any_grid_and_curve(backend, grid, curve):
    grid = TokenGrid(*grid)
    q, k, v = draw(3 + grid.num_tokens, batch=3, heads=1)
    config = JengaConfig(density=1.0, curve=curve, adjacency=True, backend=backend, strict=True)
    oracles.assert_as_exact_as_torch(carved_attention(q, k, v, grid, config, 3), *sdpa(q, k, v))


@pytest.mark.parametrize("head_dim", [8, 64, 96, 128])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_head_dims(backend, head_dim, dtype):
    q, k, v = draw(GRID.num_tokens + 10, head_dim=head_dim, dtype=dtype)
    config = JengaConfig(density=0.3, backend=backend, strict=True)
    exact, plain, _ = formula(q, k, v, GRID, config, 10)
    oracles.assert_as_exact_as_torch(carved_attention(q, k, v, GRID, config, 10), exact[0], plain[0])


@pytest.mark.parametrize(
    "options",
    [
        {"compensation": "none"},
        {"compensation": "mean"},
        {"tail_block_size": 32},
        {"kv_block_size": 128, "tail_block_size": 128},
        {"kv_block_size": 128, "tail_block_size": 32},
        {"kv_block_size": 128, "compensation": "none"},
        {"top_p": 0.4, "density": 0.05},
        {"curve": "gilbert2d_sliced"},
    ],
    ids=str,
)
def test_carving_is_the_formula(backend, options):
    config = JengaConfig(**({"density": 0.3} | options), backend=backend, strict=True)
    q, k, v = draw(11 + GRID.num_tokens + 6, batch=2)
    exact, plain, kept = formula(q, k, v, GRID, config, 11)
    result = CarvedAttention(config)(q, k, v, GRID, 11)
    oracles.assert_as_exact_as_torch(result.out, exact[0], plain[0])
    oracles.assert_as_exact_as_torch(result.lse, exact[1], plain[1])
    token_pairs = kept.repeat_interleave(128, 2)[:, :, : GRID.num_tokens]
    token_pairs = token_pairs.repeat_interleave(config.kv_block_size, 3)[..., : GRID.num_tokens]
    assert result.kept_share == pytest.approx(token_pairs.double().mean().item(), rel=1e-6)


def test_adjacent_blocks_are_kept(backend):
    grid = TokenGrid(4, 20, 20)
    config = JengaConfig(density=0.05, adjacency=True, backend=backend, strict=True)
    touch = curves.block_adjacency(4, 20, 20, "gilbert3d", 64)
    forced = torch.stack([rows.any(0) for rows in touch.split(2)])  # a query block is two key blocks
    q, k, v = draw(grid.num_tokens)
    exact, plain, kept = formula(q, k, v, grid, config, forced=forced)
    assert kept.double().mean() > 0.05
    oracles.assert_as_exact_as_torch(carved_attention(q, k, v, grid, config), exact[0], plain[0])


@pytest.mark.parametrize("curve", ["gilbert3d", "gilbert2d_sliced"])
def test_published_semantics(backend, curve):
    """128-token blocks, adjacency, the first frame as a square (sliced curve), zero padding in the last mean, drop."""
    grid = TokenGrid(3, 18, 20)  # 1080 tokens, frames of 2.8 blocks
    config = JengaConfig.published(0.8, 0.05, curve, backend=backend, strict=True)
    forced = curves.block_adjacency(3, 18, 20, curve, 128)
    if curve == "gilbert2d_sliced":
        forced[:3, :3] = True
    q, k, v = draw(grid.num_tokens)
    exact, plain, kept = formula(q, k, v, grid, config, forced=forced, last_share=1080 % 128 / 128)
    assert not kept.all()
    oracles.assert_as_exact_as_torch(carved_attention(q, k, v, grid, config), exact[0], plain[0])


def test_text_bias_acts_on_video_rows_alone(backend):
    config = JengaConfig(density=0.3, text_logit_bias=0.9, backend=backend, strict=True)
    q, k, v = draw(12 + GRID.num_tokens + 5)
    bias = torch.full((1, 128), -torch.inf)
    bias[:, :17] = 0
    bias[:, 2:12] = 0.9
    exact, plain, _ = formula(q, k, v, GRID, config, 12, bias)
    out = carved_attention(q, k, v, GRID, config, 12, text_range=(2, 12))
    oracles.assert_as_exact_as_torch(out, exact[0], plain[0])
    unbiased = carved_attention(q, k, v, GRID, config, 12)
    context = torch.cat([torch.arange(12), torch.arange(12 + GRID.num_tokens, q.shape[2])])
    assert torch.equal(out[:, :, context], unbiased[:, :, context]) and not torch.equal(out, unbiased)


def test_masked_context_is_as_if_it_were_not_there(backend):
    """Masked columns change nobody's output: equal to the sequence without them."""
    config = JengaConfig(density=0.3, backend=backend, strict=True)
    end = 9 + GRID.num_tokens
    q, k, v = draw(end + 20, batch=3, heads=1)
    mask = torch.ones(3, end + 20, dtype=torch.bool)
    mask[:, end + 5 :] = False
    whole = CarvedAttention(config)(q, k, v, GRID, 9, kv_mask=mask)
    short = CarvedAttention(config)(*(x[:, :, : end + 5] for x in (q, k, v)), GRID, 9)
    torch.testing.assert_close(whole.out[:, :, : end + 5], short.out, rtol=0, atol=1e-6)
    torch.testing.assert_close(whole.lse[:, :, : end + 5], short.lse, rtol=0, atol=1e-6)


def test_what_masked_context_holds_is_never_seen(backend):
    """NaN in the keys and values of masked columns changes nothing: bit for bit what zeros there give."""
    end = 9 + GRID.num_tokens
    q, k, v = draw(end + 20, batch=2)
    mask = torch.ones(2, end + 20, dtype=torch.bool)
    mask[0, end + 5 :] = mask[1, 3:6] = False
    outs = []
    for held in (0.0, torch.nan):
        masked = [torch.where(mask[:, None, :, None], x, held) for x in (k, v)]
        outs.append(
            CarvedAttention(JengaConfig(density=0.3, backend=backend, strict=True))(q, *masked, GRID, 9, kv_mask=mask)
        )
    assert outs[1].out.isfinite().all() and outs[1].lse.isfinite().all()
    assert torch.equal(outs[0].out, outs[1].out) and torch.equal(outs[0].lse, outs[1].lse)


def test_every_mask_is_read_anew(backend):
    """Another mask, and the same mask changed in place, must not meet a cached bias."""
    attention = CarvedAttention(JengaConfig(backend=backend, strict=True))
    q, k, v = draw(GRID.num_tokens + 8)
    mask = torch.ones(1, GRID.num_tokens + 8, dtype=torch.bool)
    outs = [attention(q, k, v, GRID, kv_mask=mask).out]
    mask[:, -1] = False
    outs.append(attention(q, k, v, GRID, kv_mask=mask).out)
    outs.append(attention(q, k, v, GRID, kv_mask=mask.clone().fill_(True)).out)
    assert torch.equal(outs[0], outs[2]) and not torch.equal(outs[0], outs[1])


def test_batch_and_heads_do_not_mix(backend):
    config = JengaConfig(density=0.25, backend=backend, strict=True)
    q, k, v = draw(GRID.num_tokens, batch=3, heads=4)
    out = carved_attention(q, k, v, GRID, config)
    batch, heads = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    moved = carved_attention(*(x[batch][:, heads] for x in (q, k, v)), GRID, config)
    torch.testing.assert_close(moved, out[batch][:, heads], rtol=0, atol=1e-6)


def test_place_of_the_context_does_not_matter(backend):
    config = JengaConfig(density=0.25, backend=backend, strict=True)
    q, k, v = draw(30 + GRID.num_tokens)
    first = carved_attention(q, k, v, GRID, config, 30)
    last = carved_attention(*(x.roll(-30, 2) for x in (q, k, v)), GRID, config)
    torch.testing.assert_close(last, first.roll(-30, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", ["token major", "wide rows", "last dim strided"])
def test_strides_do_not_matter(backend, layout):
    config = JengaConfig(density=0.25, backend=backend, strict=True)
    q, k, v = draw(GRID.num_tokens)
    expected = carved_attention(q, k, v, GRID, config)
    views = {
        "token major": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        "wide rows": lambda x: F.pad(x, (1, 2))[..., 1:-2],
        "last dim strided": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    }
    out = carved_attention(*(views[layout](x) for x in (q, k, v)), GRID, config)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    assert out.transpose(1, 2).is_contiguous()


def test_scale_is_used(backend):
    config = JengaConfig(density=0.3, backend=backend, strict=True)
    q, k, v = draw(GRID.num_tokens)
    exact, plain, _ = formula(q, k, v, GRID, config, scale=0.3)
    out = carved_attention(q, k, v, GRID, config, softmax_scale=0.3)
    oracles.assert_as_exact_as_torch(out, exact[0], plain[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_native_agrees_with_the_reference(dtype):
    usable("native")
    q, k, v = draw(40 + GRID.num_tokens, batch=2, heads=3, head_dim=128, dtype=dtype)
    native, plain = (
        CarvedAttention(JengaConfig(top_p=0.2, adjacency=True, backend=name, strict=True))(q, k, v, GRID, 40)
        for name in ("native", "reference")
    )
    assert (native.backend, plain.backend) == ("native_cpu", "reference")
    # of the same lists: one block more is .004, and what plain torch sums in fp32 differs in the seventh digit
    assert native.kept_share.item() == pytest.approx(plain.kept_share.item(), rel=1e-6)
    exact = CarvedAttention(JengaConfig(top_p=0.2, adjacency=True, backend="reference"))(
        *(x.double() for x in (q, k, v)), GRID, 40
    )
    oracles.assert_as_exact_as_torch(native.out, exact.out, plain.out)


@pytest.mark.parametrize("curve", ["gilbert3d", "gilbert2d_sliced", "raster"])
@pytest.mark.parametrize("grid", [(1, 1, 1), (3, 5, 7), (5, 5, 5), (4, 6, 9), (8, 30, 52)])
def test_native_curve_and_adjacency_are_the_reference_ones(grid, curve):
    usable("native")
    assert torch.equal(ops.curve_order(*grid, curve), curves.curve_order(*grid, curve))
    for block in (64, 128):
        assert torch.equal(ops.block_adjacency(*grid, curve, block), curves.block_adjacency(*grid, curve, block))


def test_plans_are_kept_per_shape():
    attention = CarvedAttention(JengaConfig(backend="reference"))
    q, k, v = draw(GRID.num_tokens + 4)
    results = [attention(q, k, v, GRID, start).out for start in (0, 4, 0)]
    assert torch.equal(results[0], results[2]) and not torch.equal(results[0], results[1])
    assert len(attention._plans) == 2


@pytest.mark.parametrize("masked", [False, True])
def test_under_torch_compile(backend, masked):
    """Native: one graph, once the plan is there. A mask is read on the host, and the reference loops: graph breaks."""
    attention = CarvedAttention(JengaConfig(density=0.3, backend=backend, strict=True))
    q, k, v = draw(GRID.num_tokens + 4)
    mask = torch.ones(1, q.shape[2], dtype=torch.bool)
    mask[:, 1] = False

    def call(q, k, v):
        return attention(q * 2, k, v, GRID, 4, kv_mask=mask if masked else None).out + 1

    expected = call(q, k, v)
    torch._dynamo.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=backend == "native" and not masked)
    torch.testing.assert_close(compiled(q, k, v), expected, rtol=0, atol=1e-6)


def test_under_inference_mode(backend):
    attention = CarvedAttention(JengaConfig(density=0.3, backend=backend, strict=True))
    with torch.inference_mode():
        q, k, v = draw(GRID.num_tokens + 4)
        mask = torch.ones(1, GRID.num_tokens + 4, dtype=torch.bool)
        masked = attention(q, k, v, GRID, 4, kv_mask=mask).out
        torch.testing.assert_close(masked, attention(q, k, v, GRID, 4).out, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("backend", ["flex", "native"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compensation": "none"},
        {"kv_block_size": 128, "tail_block_size": 32},
        {"top_p": 0.4, "adjacency": True},
        {"density": 1.0},
    ],
    ids=str,
)
def test_on_a_gpu(backend, dtype, options):
    if backend == "native" and not ops.native_status().cuda:
        pytest.skip(ops.native_status().reason)
    config = {"density": 0.3, "text_logit_bias": 0.7} | options
    q, k, v = draw(20 + GRID.num_tokens + 9, batch=2, head_dim=128, dtype=dtype)
    mask = torch.ones(2, q.shape[2], dtype=torch.bool)
    mask[1, -6:] = False
    inputs = (GRID, 20, (0, 20))
    exact, plain = (
        CarvedAttention(JengaConfig(**config, backend="reference"))(*(x.to(kind) for x in (q, k, v)), *inputs, mask)
        for kind in (torch.float64, dtype)
    )
    attention = CarvedAttention(JengaConfig(**config, backend=backend, strict=True))
    result = attention(*(x.cuda() for x in (q, k, v)), *inputs, mask.cuda())
    oracles.assert_as_exact_as_torch(result.out, exact.out, plain.out.double())
    assert result.kept_share.item() == pytest.approx(exact.kept_share.item())
    assert result.out.transpose(1, 2).is_contiguous()


# --- what it falls back to --------------------------------------------------------------------------------------------


def test_masked_video_means_dense_with_the_reason():
    q, k, v = draw(7 + GRID.num_tokens, batch=2)
    mask = torch.ones(2, q.shape[2], dtype=torch.bool)
    mask[1, 3] = mask[0, 100] = False
    result = CarvedAttention(JengaConfig(density=0.2))(q, k, v, GRID, 7, kv_mask=mask)
    oracles.assert_as_exact_as_torch(result.out, *sdpa(q, k, v, mask[:, None, None]))
    assert (result.backend, result.lse, result.kept_share.item()) == ("dense", None, 1.0)
    assert result.reason == "kv_mask has a False on a video column: attention is dense"
    with pytest.raises(
        RuntimeError, match="carved_attention: strict must not meet a fallback, got kv_mask has a False"
    ):
        CarvedAttention(JengaConfig(strict=True))(q, k, v, GRID, 7, kv_mask=mask)


def test_what_masked_video_holds_is_never_seen():
    q, k, v = draw(7 + GRID.num_tokens, batch=2)
    mask = torch.ones(2, q.shape[2], dtype=torch.bool)
    mask[1, 3] = mask[0, 100] = False
    exact, plain = sdpa(q, k, v, mask[:, None, None])
    k, v = (torch.where(mask[:, None, :, None], x, torch.nan) for x in (k, v))
    oracles.assert_as_exact_as_torch(carved_attention(q, k, v, GRID, video_start=7, kv_mask=mask), exact, plain)


def test_the_dense_fallback_keeps_the_text_bias():
    q, k, v = draw(7 + GRID.num_tokens + 4)
    mask = torch.ones(1, q.shape[2], dtype=torch.bool)
    mask[:, [2, 50]] = False
    out = carved_attention(q, k, v, GRID, JengaConfig(text_logit_bias=0.6), 7, text_range=(0, 7), kv_mask=mask)
    terms = torch.where(mask[:, None, None], 0.0, -torch.inf).repeat(1, 1, q.shape[2], 1)
    terms[:, :, 7 : 7 + GRID.num_tokens, :7] += 0.6
    exact = F.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), terms.double())
    oracles.assert_as_exact_as_torch(out, exact, F.scaled_dot_product_attention(q, k, v, terms).double())


def test_a_row_with_nothing_to_attend_is_zero():
    q, k, v = draw(GRID.num_tokens, batch=2)
    mask = torch.ones(2, GRID.num_tokens, dtype=torch.bool)
    mask[1] = False
    out = carved_attention(q, k, v, GRID, kv_mask=mask)
    assert (out[1] == 0).all() and out[0].isfinite().all() and (out[0] != 0).any()


def test_an_unfit_input_reaches_the_reference_with_the_reason():
    q, k, v = draw(GRID.num_tokens, head_dim=12)
    result = CarvedAttention()(q, k, v, GRID)
    assert result.backend == "reference" and result.reason.startswith("native_cpu: ")
    if ops.native_status().cpu:
        assert result.reason == "native_cpu: head dim must be a multiple of 8 from 8 to 256, got 12"
    with pytest.raises(RuntimeError, match="carved_attention: strict must not meet a fallback, got native_cpu: "):
        carved_attention(q, k, v, GRID, JengaConfig(strict=True))


def test_flex_on_the_cpu_is_refused_with_the_reason():
    q, k, v = draw(GRID.num_tokens)
    result = CarvedAttention(JengaConfig(backend="flex"))(q, k, v, GRID)
    assert result.backend == "reference" and result.reason.startswith("flex: ")


def test_asking_for_the_reference_is_no_fallback():
    q, k, v = draw(GRID.num_tokens)
    result = CarvedAttention(JengaConfig(backend="reference", strict=True))(q, k, v, GRID)
    assert (result.backend, result.reason) == ("reference", "")


def test_backends_say_why_they_cannot_run():
    statuses = {status.name: status for status in jenga.backends()}
    assert set(statuses) == {"native_cuda", "flex", "native_cpu", "reference"}
    assert statuses["reference"].available
    assert statuses["native_cpu"].available == ops.native_status().cpu
    assert all(status.available == (status.reason == "") for status in statuses.values())
    assert str(statuses["reference"]) == "reference: available"


def test_no_score_matrix_is_made(monkeypatch):
    """The last resort works in pieces: no tensor of it comes near S * S elements."""
    grid = TokenGrid(4, 32, 32)
    monkeypatch.setattr(reference, "CPU_PIECE", 1 << 16)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    q, k, v = draw(grid.num_tokens, heads=1, head_dim=16)
    with Watch():
        carved_attention(q, k, v, grid, JengaConfig(density=0.1, backend="reference"))
    assert q.numel() <= largest < grid.num_tokens**2 / 16


# --- what it refuses --------------------------------------------------------------------------------------------------

Q = torch.zeros(2, 3, 20, 8)
MASK = torch.ones(2, 20, dtype=torch.bool)
SMALL = TokenGrid(2, 2, 3)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"q": [1.0]}, TypeError, "q must be a tensor, got list"),
        ({"k": None}, TypeError, "k must be a tensor, got NoneType"),
        ({"q": Q[0]}, ValueError, "q must have 4 dimensions [B, H, S, D], got shape (3, 20, 8)"),
        ({"q": Q.int()}, ValueError, "q must be floating point, got int32"),
        ({"v": Q.half()}, ValueError, "v must have the dtype of q (float32), got float16"),
        ({"k": Q.to("meta")}, ValueError, "k must be on the device of q (cpu), got meta"),
        (
            {"k": Q[:, :1]},
            ValueError,
            "k must have the shape of q (2, 3, 20, 8) (self-attention; repeat grouped heads first), "
            "got shape (2, 1, 20, 8)",
        ),
        (
            {"v": Q[:, :, :5]},
            ValueError,
            "v must have the shape of q (2, 3, 20, 8) (self-attention; repeat grouped heads first), "
            "got shape (2, 3, 5, 8)",
        ),
        (
            {name: Q[:0] for name in "qkv"},
            ValueError,
            "q must have a batch of at least 1, got shape (0, 3, 20, 8)",
        ),
        (
            {name: Q[:, :, :0] for name in "qkv"},
            ValueError,
            "q must have a sequence of at least 1, got shape (2, 3, 0, 8)",
        ),
        (
            {"k": Q.clone().requires_grad_()},
            RuntimeError,
            "k must not need grad, got requires_grad=True; it has no backward pass, call it under torch.no_grad()",
        ),
        ({"grid": (2, 2, 3)}, TypeError, "grid must be a TokenGrid, got tuple"),
        (
            {"grid": TokenGrid(3, 3, 3)},
            ValueError,
            "grid must fit the sequence: video_start + t*h*w must be at most 20, got 0 + 3*3*3 = 27",
        ),
        (
            {"video_start": 9},
            ValueError,
            "grid must fit the sequence: video_start + t*h*w must be at most 20, got 9 + 2*2*3 = 21",
        ),
        ({"video_start": -1}, ValueError, "video_start must be an integer >= 0, got -1"),
        ({"video_start": 1.5}, ValueError, "video_start must be an integer >= 0, got 1.5"),
        (
            {"text_range": (10, 14)},
            ValueError,
            "text_range must hold context columns only, the video is 0 .. 12, got (10, 14)",
        ),
        ({"text_range": (14, 21)}, ValueError, "text_range must lie in 0 .. 20, got (14, 21)"),
        ({"text_range": (15, 14)}, ValueError, "text_range must lie in 0 .. 20, got (15, 14)"),
        ({"text_range": 14}, ValueError, "text_range must be (start, stop), got 14"),
        ({"kv_mask": MASK.tolist()}, TypeError, "kv_mask must be a tensor, got list"),
        ({"kv_mask": MASK.float()}, ValueError, "kv_mask must be bool (True is attended), got float32"),
        ({"kv_mask": MASK[:1]}, ValueError, "kv_mask must be [B, S] = (2, 20), got shape (1, 20)"),
        ({"kv_mask": MASK.to("meta")}, ValueError, "kv_mask must be on the device of q (cpu), got meta"),
        ({"softmax_scale": 0.0}, ValueError, "softmax_scale must be positive and finite, got 0.0"),
        ({"softmax_scale": math.nan}, ValueError, "softmax_scale must be positive and finite, got nan"),
    ],
    ids=lambda value: None if isinstance(value, type | str) else " ".join(value),
)
def test_bad_input_is_named(changed, error, message):
    arguments = {"q": Q, "k": Q, "v": Q, "grid": SMALL} | changed
    with pytest.raises(error) as raised:
        carved_attention(**arguments)
    assert str(raised.value) == f"carved_attention: {message}"


def test_zero_video_tokens_are_no_grid():
    with pytest.raises(ValueError, match="TokenGrid: t must be a positive integer, got 0"):
        TokenGrid(0, 2, 3)


def test_grad_is_fine_where_it_is_off():
    q = torch.zeros(1, 1, 12, 8, requires_grad=True)
    with torch.no_grad():
        assert not carved_attention(q, q, q, SMALL).requires_grad
