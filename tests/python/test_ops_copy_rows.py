"""copy_rows: the bits of torch's copy_, nothing written beside them, and what it refuses. CUDA alone has it."""

import pytest
import torch

from jenga.carving import ops, self_test
from jenga.runtime.lane import copy_rows, packed

HEADS, FIRST, TOKENS = 8, 3, 333
BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.int8: torch.int8}


def drawn(dtype, device, batch=1, heads=HEADS, tokens=TOKENS, head_dim=128, tokens_first=True):
    """Random bits, NaN among them, [B, H, S, D] as a projection gives them, or with the heads first in memory."""
    limits = torch.iinfo(BITS[dtype])
    shape = (batch, tokens, heads, head_dim) if tokens_first else (batch, heads, tokens, head_dim)
    bits = torch.randint(limits.min, limits.max, shape, dtype=BITS[dtype]).to(device).view(dtype)
    return bits.transpose(1, 2) if tokens_first else bits


def same(one, other):
    return torch.equal(one.view(BITS[one.dtype]), other.view(BITS[other.dtype]))


@pytest.mark.parametrize("dtype", BITS, ids=str)
@pytest.mark.parametrize("tokens_first", [True, False], ids=["tokens first", "heads first"])
@pytest.mark.parametrize(("batch", "tokens", "head_dim"), [(1, 333, 128), (2, 77, 64), (3, 1, 16), (2, 1025, 48)])
def test_rows_are_those_of_torch_and_nothing_else_is_written(dtype, tokens_first, batch, tokens, head_dim, cuda):
    shape = {"batch": batch, "tokens": tokens, "head_dim": head_dim}
    sources = [drawn(dtype, cuda, **shape)[:, FIRST : FIRST + 2] for _ in range(3)]
    targets = [drawn(dtype, cuda, **shape, heads=5, tokens_first=tokens_first) for _ in range(3)]
    wanted = [x.clone(memory_format=torch.preserve_format) for x in targets]
    for target, source in zip(wanted, sources, strict=True):
        target[:, 1:3].view(BITS[dtype]).copy_(source.view(BITS[dtype]))
    ops.copy_rows([x[:, 1:3] for x in targets], sources)
    assert all(map(same, targets, wanted))


def test_offsets_beyond_four_gigabytes(cuda):
    if torch.cuda.mem_get_info()[0] < 8 << 30:
        pytest.skip("less than 8 GiB free")
    source = torch.zeros(1, 140_000, 240, 64, dtype=torch.bfloat16, device=cuda).transpose(1, 2)
    source[:, -1] = drawn(torch.bfloat16, cuda, heads=1, tokens=140_000, head_dim=64)[:, 0]
    (part,) = packed((source[:, -1:],))
    assert same(part, source[:, -1:])


def test_the_current_stream_is_used(cuda):
    source, target = drawn(torch.bfloat16, cuda), torch.zeros(1, TOKENS, 2, 128, dtype=torch.bfloat16, device=cuda)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = torch.zeros_like(source)
        torch.cuda._sleep(100_000_000)
        late.copy_(source)
        ops.copy_rows((target.transpose(1, 2),), (late[:, :2],))
    stream.synchronize()
    assert same(target.transpose(1, 2), source[:, :2])


def test_heads_are_packed_and_joined_by_the_kernel_where_their_rows_fit(cuda, monkeypatch):
    assert self_test.copies_rows(torch.device(cuda, torch.cuda.current_device()))
    launches, launch = [], ops.copy_rows
    monkeypatch.setattr(ops, "copy_rows", lambda *pairs: launches.append(len(pairs[0])) or launch(*pairs))
    q, k, v = (drawn(torch.bfloat16, cuda) for _ in range(3))
    parts = packed([x[:, 2:5] for x in (q, k, v)])
    assert launches == [3]  # one for all
    for part, x in zip(parts, (q, k, v), strict=True):
        assert same(part, x[:, 2:5]) and part.transpose(1, 2).is_contiguous()
    whole = torch.zeros_like(q)
    copy_rows((whole[:, 2:5],), (parts[0],))
    assert launches == [3, 1] and same(whole[:, 2:5], q[:, 2:5])
    narrow = drawn(torch.bfloat16, cuda, head_dim=60)
    assert same(packed((narrow[:, 2:5],))[0], narrow[:, 2:5])
    off = q.new_empty(TOKENS * 2 * 128 + 1)[1:].view(1, TOKENS, 2, 128).transpose(1, 2)
    copy_rows((off,), (q[:, :2],))
    assert launches == [3, 1] and same(off, q[:, :2])


def arguments():
    make = lambda: torch.zeros(1, 5, 4, 8).transpose(1, 2)  # noqa: E731
    return [make(), make()], [make(), make()]


REFUSED = [
    (lambda t, s: ([], s), "targets must be 1 to 4 tensors, got 0"),
    (lambda t, s: (3 * t, 3 * s), "targets must be 1 to 4 tensors, got 6"),
    (lambda t, s: (t, s[:1]), "sources must be as many as targets (2), got 1"),
    (lambda t, s: ([t[0][0]], s[:1]), "targets[0] must have 4 dimensions [B, H, S, D], got shape [4, 5, 8]"),
    (lambda t, s: (t, [s[0], s[1][:, 1:]]), "sources[1] must have shape [1, 4, 5, 8], got [1, 3, 5, 8]"),
    (lambda t, s: ([t[0], t[1].half()], s), "targets[1] must be float32, got float16"),
    (
        lambda t, s: ([x[..., :6] for x in t], [x[..., :6] for x in s]),
        "targets[0] must have contiguous rows of a multiple of 16 bytes, got 24 bytes and stride 1; take torch's copy_",
    ),
    (
        lambda t, s: (t, [s[0], s[1].transpose(2, 3).contiguous().transpose(2, 3)]),
        "sources[1] must have contiguous rows of a multiple of 16 bytes, got 32 bytes and stride 5; take torch's copy_",
    ),
    (
        lambda t, s: ([x[..., 1:5] for x in t], s and [x[..., :4] for x in s]),
        "targets[0] must start on 16 bytes, got 4 bytes behind them; take torch's copy_",
    ),
    (
        lambda t, s: (t[:1], [torch.zeros(1, 4, 5, 9)[..., :8]]),
        "sources[0] must have strides of a multiple of 16 bytes, got 180 bytes in dimension 1; take torch's copy_",
    ),
    (
        lambda t, s: ([t[0][:, :1].expand(1, 4, 5, 8)], s[:1]),
        "targets[0] must have memory of its own for every row, got stride 0 in dimension 1",
    ),
    (lambda t, s: (t, s), "targets must be on a CUDA device, got cpu; take torch's copy_"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_refused(change, message):
    with pytest.raises(RuntimeError) as error:
        ops.copy_rows(*change(*arguments()))
    assert str(error.value) == f"copy_rows: {message}"


@pytest.mark.parametrize("side", [0, 1])
def test_there_is_no_backward(side):
    given = arguments()
    given[side][1].requires_grad_()
    name = ("targets", "sources")[side]
    with pytest.raises(RuntimeError, match=rf"copy_rows: {name}\[1\] must not require grad, got requires_grad=True"):
        ops.copy_rows(*given)


def test_opcheck(cuda):
    sources = [drawn(torch.int8, cuda)[:, :2] for _ in range(2)]
    targets = [torch.zeros_like(x) for x in sources]
    torch.library.opcheck(torch.ops.jenga.copy_rows.default, (targets, sources))


def test_a_device_without_the_kernel_is_left_to_torch():
    assert not self_test.copies_rows(torch.device("cpu"))
