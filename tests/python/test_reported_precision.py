"""What users of attention in 8 bits reported of other packs, tried on ours: the report's repository and number are in
the docstring. A GPU computes by its own kernels, and a Hopper by those of 8.9 too; a CPU by the reference.
"""

import cases
import pytest
import torch
from oracles import relative_error

from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving.dispatch import Backends, PrecisionUnavailable
from jenga.carving.quantise import PRECISIONS

SHORT, LONG = TokenGrid(5, 16, 20), TokenGrid(46, 64, 64)  # LONG: 188,416 tokens
MIDDLE = TokenGrid(16, 32, 32)  # 16,384 tokens
LIMITS = {"16-bit": 0.004, "int8": 0.02, "fp8": 0.06}  # of normal numbers, which no head has smoothed


@pytest.fixture
def where(device, kernel) -> tuple[str, str]:
    """(device, backend), on a Hopper once for each of its kernels."""
    if device == "cpu" and kernel != "own kernel":
        pytest.skip("a CPU has no kernel of 8.9")
    return device, "native" if device == "cuda" else "reference"


def carve(where, precision: str, grid: TokenGrid, q, k, v, density: float = 0.3, lists=None):
    device, backend = where
    q, k, v = (x.to(device) for x in (q, k, v))
    try:
        Backends().choose(backend, q, precision)
    except PrecisionUnavailable as error:
        pytest.skip(str(error))
    attention = CarvedAttention(JengaConfig(precision=precision, backend=backend, density=density))
    return attention(q, k, v, grid, lists=lists)


def draw(grid: TokenGrid, head_dim: int = 128):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(1, 2, grid.num_tokens, head_dim, generator=generator) for _ in range(3)]


def error_of(where, precision: str, grid: TokenGrid, q, k, v) -> float:
    """Of the output, against fp32 with the same lists; it and lse are finite."""
    return error_against_fp32(carve(where, precision, grid, q, k, v), grid, q, k, v)


def error_against_fp32(result, grid: TokenGrid, q, k, v) -> float:
    lists = cases.on_device(result.lists, "cpu")
    exact = carve(("cpu", "reference"), "16-bit", grid, *(x.float() for x in (q, k, v)), lists=lists)
    assert result.out.isfinite().all() and result.lse.isfinite().all()
    return relative_error(result.out.cpu(), exact.out)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_values_as_large_as_fp16_holds(precision, where):
    """thu-ml/SageAttention 221, Comfy-Org/ComfyUI 7020 and 9077: the video is black, since something overflowed."""
    q, k, v = draw(SHORT)
    k = k + 30 * torch.randn(1, 2, 1, 128, generator=torch.Generator().manual_seed(4))  # a constant, as in checkpoints
    v = (3e4 * v).clamp(-65504, 65504)
    assert error_of(where, precision, SHORT, *(x.half() for x in (q, k, v))) <= LIMITS[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("grid", [SHORT, LONG], ids=["short", "long"])
def test_equal_values_come_back(grid, precision, where):
    """thu-ml/SageAttention 388, Comfy-Org/ComfyUI 15263 and comfy-kitchen 140: noise from some length on, a cliff and
    not a slope. Whatever the weights are, and however many, they sum to one.
    """
    if grid == LONG and where[0] == "cpu":
        pytest.skip("188,416 tokens need a GPU")
    q, k, _ = draw(grid)
    v = torch.linspace(-3, 3, 128).expand(1, 2, grid.num_tokens, 128)
    out = carve(where, precision, grid, q.bfloat16(), k.bfloat16(), v.bfloat16(), density=0.05).out.float().cpu()
    torch.testing.assert_close(out, v.bfloat16().float().expand_as(out), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_noise_does_not_grow_with_the_length(precision, where):
    """The same reports: what 8 bits cost at 188,416 tokens is what they cost at 1,600."""
    if where[0] == "cpu":
        pytest.skip("188,416 tokens need a GPU")
    errors = []
    for grid in (SHORT, LONG):
        inputs = [x.bfloat16() for x in draw(grid)]
        found, exact = (carve(where, name, grid, *inputs, density=0.05) for name in (precision, "16-bit"))
        assert torch.equal(found.lists.index, exact.lists.index)
        errors.append(relative_error(found.out, exact.out))
    assert max(errors) <= LIMITS[precision] and errors[1] <= 1.5 * errors[0]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_one_channel_is_far_larger(precision, where):
    """xdit-project/xDiT 723: artifacts in videos of Wan, gone once queries and keys were rotated."""
    q, k, v = draw(SHORT)
    k[..., 5] *= 8
    assert error_of(where, precision, SHORT, *(x.bfloat16() for x in (q, k, v))) <= LIMITS[precision]


@pytest.mark.parametrize("head_dim", [64, 80, 96, 112])
def test_a_head_dim_that_is_no_power_of_two(head_dim, where):
    """vllm-project/vllm 41414 and 56198: a rotation of the next power of two does not fit, or is none."""
    inputs = [x.bfloat16() for x in draw(SHORT, head_dim)]
    assert error_of(where, "int8", SHORT, *inputs) <= LIMITS["int8"]


@pytest.mark.parametrize("head_dim", [72, 128])
def test_auto_says_what_ran_and_that_holds_its_error(head_dim, where):
    """thu-ml/SageAttention 288 (NaN, by the kernel that Hopper takes by itself) and 23 (black video, a head dim that no
    kernel had), NVIDIA/TensorRT-LLM 13721 (what fell back is called quantised).
    """
    inputs = [x.bfloat16() for x in draw(MIDDLE, head_dim)]
    result = carve(where, "auto", MIDDLE, *inputs, density=0.05)  # fp32 has to follow on a CPU
    in_8_bits = where[0] == "cuda" and head_dim == 128 and torch.cuda.get_device_capability() == (9, 0)
    assert (result.precision, result.reason) == ("fp8" if in_8_bits else "16-bit", "")
    error = error_against_fp32(result, MIDDLE, *inputs)
    assert LIMITS["16-bit"] < error <= LIMITS["fp8"] if in_8_bits else error <= LIMITS["16-bit"]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_few_keys_and_the_callers_stay_as_they_are(precision, where):
    """Comfy-Org/ComfyUI 16035: what all keys lose is taken off the caller's own; where they are few it does harm."""
    grid = TokenGrid(1, 3, 4)
    inputs = [x.to(where[0], torch.bfloat16) for x in draw(grid)]
    before = [x.clone() for x in inputs]
    assert error_of(where, precision, grid, *inputs) <= LIMITS[precision]
    assert all(map(torch.equal, inputs, before))
