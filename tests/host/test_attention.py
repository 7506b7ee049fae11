"""Jenga Attention in real ComfyUI: equal to stock at full density, carved below it, gone when it is bypassed."""

import pytest
import torch

from workflows import carved, report, samples, workflow


@pytest.fixture
def stock(host):
    return samples(host.run(workflow()))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_full_density_equals_stock(host, cfg):
    stock = samples(host.run(workflow(cfg=cfg)))
    dense = samples(host.run(workflow([carved(density=1.0)], cfg=cfg)))
    torch.testing.assert_close(dense, stock, rtol=0, atol=1e-4)


def test_carved_run_differs_and_says_what_it_kept(host, stock):
    outputs = host.run(workflow([carved()]))
    result = samples(outputs)
    assert torch.isfinite(result).all()
    assert 1e-5 < (result - stock).abs().max() < stock.abs().max()
    figures = report(outputs)
    assert 0.3 <= figures["kept_share"] < 0.6
    assert [len(row) for row in figures["kept_share_map"]] == [3, 3]
    assert figures["model_calls_computed"] == 3
    assert not figures["fallbacks"] or all("native" in reason for reason in figures["fallbacks"])
    assert any(node == "p0" and "attention calls carved" in text for node, text in host.status)


def test_bypass_restores_stock_bitwise(host, stock):
    host.run(workflow([carved()]))
    assert torch.equal(samples(host.run(workflow([carved(enabled=False)]))), stock)
    host.run(workflow([carved()], seed=6))
    assert torch.equal(samples(host.run(workflow(seed=5))), stock)
