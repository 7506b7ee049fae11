"""TokenGrid and JengaConfig: what they refuse, in which words, and how many blocks they keep."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import jenga
from jenga import JengaConfig, TokenGrid
from jenga.carving import constraints

NAN = float("nan")


@pytest.mark.parametrize("sides", [(0, 1, 1), (1, -2, 1), (1, 1, 2.0), (True, 1, 1), ("3", 1, 1)])
def test_grid_refuses_what_is_no_positive_integer(sides):
    with pytest.raises(ValueError, match=r"TokenGrid: [thw] must be a positive integer, got "):
        TokenGrid(*sides)


def test_grid_counts_tokens():
    assert TokenGrid(32, 45, 80).num_tokens == 115_200


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("density", 0, "density must be in (0, 1], got 0"),
        ("density", 1.01, "density must be in (0, 1], got 1.01"),
        ("density", -0.2, "density must be in (0, 1], got -0.2"),
        ("density", NAN, "density must be in (0, 1], got nan"),
        ("density", "0.2", "density must be in (0, 1], got '0.2'"),
        ("density", True, "density must be in (0, 1], got True"),
        ("top_p", -0.1, "top_p must be in [0, 1], got -0.1"),
        ("top_p", 1.5, "top_p must be in [0, 1], got 1.5"),
        ("top_p", NAN, "top_p must be in [0, 1], got nan"),
        ("text_logit_bias", NAN, "text_logit_bias must be finite, got nan"),
        ("text_logit_bias", math.inf, "text_logit_bias must be finite, got inf"),
        ("kv_block_size", 32, "kv_block_size must be one of 64, 128, got 32"),
        ("tail_block_size", 16, "tail_block_size must be one of 32, 64, 128, got 16"),
        ("tail_block_size", 128, "tail_block_size must divide kv_block_size 64, got 128"),
        ("score_cells", 8, "score_cells must be two of 1, 2, 4, 8, got 8"),
        ("score_cells", (8, 3), "score_cells must be two of 1, 2, 4, 8, got (8, 3)"),
        ("score_cells", (True, 8), "score_cells must be two of 1, 2, 4, 8, got (True, 8)"),
        ("curve", "hilbert", "curve must be one of gilbert3d, gilbert2d_sliced, raster, got 'hilbert'"),
        ("adjacency", 1, "adjacency must be one of False, True, got 1"),
        ("compensation", "sum", "compensation must be one of mean, none, got 'sum'"),
        ("backend", "cuda", "backend must be one of auto, native, flex, reference, got 'cuda'"),
        ("strict", "yes", "strict must be one of False, True, got 'yes'"),
        ("semantics", "paper", "semantics must be one of corrected, published, got 'paper'"),
        ("precision", "fp16", "precision must be one of auto, 16-bit, int8, fp8, got 'fp16'"),
        ("precision", 8, "precision must be one of auto, 16-bit, int8, fp8, got 8"),
    ],
)
def test_config_names_field_rule_and_value(field, value, message):
    with pytest.raises(ValueError) as error:
        JengaConfig(**{field: value})
    assert str(error.value) == f"JengaConfig: {message}"


def test_config_is_frozen_and_hashable():
    config = JengaConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.density = 0.5
    assert hash(config) == hash(JengaConfig()) and config != JengaConfig(density=0.5)


@pytest.mark.parametrize(
    ("density", "num_video", "block", "expected"),
    [
        (0.2, 115_200, 64, 360),
        (0.07, 6_400, 64, 7),  # 0.07 * 100 is 7.000000000000001: not 8
        (0.1, 1_920, 64, 3),
        (0.101, 6_400, 64, 11),
        (1e-6, 6_400, 64, 1),
        (1.0, 6_401, 64, 101),
        (1.0, 1, 128, 1),
    ],
)
def test_min_blocks_is_the_ceiling_of_the_density(density, num_video, block, expected):
    assert JengaConfig(density=density, kv_block_size=block).min_blocks(num_video) == expected


DROPS = (0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PUBLISHED_TOP_K = [
    ("gilbert3d", (32, 45, 80), 900, (450, 270, 225, 179, 135, 89, 45)),
    ("gilbert3d", (32, 33, 60), 495, (247, 148, 123, 98, 74, 49, 24)),
    ("gilbert3d", (32, 22, 40), 220, (110, 66, 55, 43, 33, 21, 11)),
    ("gilbert3d", (32, 68, 52), 884, (442, 265, 221, 176, 132, 88, 44)),
    ("gilbert2d_sliced", (21, 45, 80), 591, (295, 177, 147, 118, 88, 59, 29)),
    ("gilbert2d_sliced", (21, 33, 60), 325, (162, 97, 81, 64, 48, 32, 16)),
    ("gilbert2d_sliced", (21, 30, 52), 256, (128, 76, 64, 51, 38, 25, 12)),
    ("gilbert2d_sliced", (21, 22, 39), 141, (70, 42, 35, 28, 21, 14, 7)),
]


@pytest.mark.parametrize(("curve", "grid", "blocks", "top_k"), PUBLISHED_TOP_K)
def test_published_block_counts(curve, grid, blocks, top_k):
    num_video = TokenGrid(*grid).num_tokens
    configs = [JengaConfig.published(drop, 0.3, curve) for drop in DROPS]
    assert all(config.num_kv_blocks(num_video) == blocks for config in configs)
    assert tuple(config.min_blocks(num_video) for config in configs) == top_k


def test_published_is_the_paper():
    config = JengaConfig.published(0.8, 0.3, strict=True)
    assert (config.kv_block_size, config.adjacency, config.compensation) == (128, True, "none")
    assert config.semantics == "published" and config.strict and config.density == 1 - 0.8
    assert config.score_cells == (1, 1)


@pytest.mark.parametrize("drop", [1.0, -0.1, NAN, "0.5"])
def test_published_refuses_drop(drop):
    with pytest.raises(ValueError, match=r"JengaConfig: drop must be in \[0, 1\), got "):
        JengaConfig.published(drop, 0.3)


def test_published_by_hand_names_the_constructor():
    with pytest.raises(
        ValueError, match=r"kv_block_size must be 128 .*use JengaConfig.published\(drop, top_p\), got 64"
    ):
        JengaConfig(semantics="published")


@pytest.mark.parametrize(
    ("backend", "shape", "dtype", "expected"),
    [
        ("native_cpu", (1, 2, 9, 64), torch.float32, None),
        ("native_cpu", (1, 2, 9, 64), torch.float64, "dtype must be float32, bfloat16, float16, got float64"),
        ("native_cpu", (1, 2, 9, 12), torch.float32, "head dim must be a multiple of 8 from 8 to 256, got 12"),
        ("native_cpu", (1, 2, 9, 264), torch.float32, "head dim must be a multiple of 8 from 8 to 256, got 264"),
        ("native_cuda", (1, 2, 9, 64), torch.float16, "device must be cuda, got cpu"),
        ("flex", (1, 2, 9, 64), torch.float16, "device must be cuda, got cpu"),
        ("reference", (1, 2, 9, 7), torch.float64, None),
    ],
)
def test_a_refusal_states_parameter_and_reason(backend, shape, dtype, expected):
    refusal = constraints.refusal(backend, torch.zeros(shape, dtype=dtype))
    assert (None if refusal is None else str(refusal)) == expected


@pytest.mark.parametrize(
    ("backend", "capability", "expected"),
    [
        ("native_cuda", (8, 0), None),
        ("native_cuda", (7, 5), "device must have compute capability 8.0 or newer, got 7.5"),
        ("flex", (6, 1), "device must have compute capability 7.0 or newer, got 6.1"),
    ],
)
def test_an_old_gpu_is_refused(monkeypatch, backend, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    q = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float16, shape=(1, 2, 9, 64))
    refusal = constraints.refusal(backend, q)
    assert (None if refusal is None else str(refusal)) == expected


def test_version_is_that_of_the_wheel():
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert f'version = "{jenga.__version__}"' in project.read_text().splitlines()


def test_unknown_attribute_of_the_package():
    with pytest.raises(AttributeError, match="has no attribute 'carve'"):
        _ = jenga.carve
