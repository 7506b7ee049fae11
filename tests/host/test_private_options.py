"""What nodes/host/private_options.py reads, gone: a run goes on, and what its table says is what changes."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from comfy_host import pack_module

from jenga.runtime.call import Block
from workflows import GRID, carved, dial, node, report, samples, stock_sampler, windows, workflow

LONG_CLIP = node("EmptyHunyuanLatentVideo", **{**GRID, "length": 33})  # 9 latent frames
ANCHORED = carved(quality="custom", anchor_distance="2")
BALANCED = carved(quality="balanced")
CACHE = ("EasyCache", {"reuse_threshold": 0.2, "start_percent": 0.1, "end_percent": 0.9, "verbose": False})


@pytest.fixture
def private_options(host):
    return pack_module("nodes.host.private_options")


@pytest.fixture
def without(private_options, monkeypatch):
    """without(key, ...): from now on our nodes do not see these keys of the options; ComfyUI itself does."""

    def blind(function, keys):
        def reading(*args):
            *others, last = args
            if isinstance(last, dict):
                return function(*others, {key: value for key, value in last.items() if key not in keys})
            options, *rest = args
            return function({key: value for key, value in options.items() if key not in keys}, *rest)

        return reading

    def take_away(*keys: str) -> None:
        for name, function in inspect.getmembers(private_options, inspect.isfunction):
            if "options" in inspect.signature(function).parameters:
                monkeypatch.setattr(private_options, name, blind(function, keys))

    return take_away


def run(host, *patches, **settings) -> dict:
    host.forget()
    return host.run(stock_sampler(workflow(patches, **{"steps": 4, "cfg": 3.0, **settings})))


@pytest.mark.parametrize(
    "keys", [("uuids",), ("uuids", "cond_or_uncond"), ("block_type", "block_index", "total_blocks"), ("sigmas",)]
)
def test_a_usual_run_is_the_same_without(host, without, keys):
    patches = [carved(**{**ANCHORED[1], "start_percent": 0.3})]
    expected = run(host, *patches)
    without(*keys)
    outputs = run(host, *patches)
    assert torch.equal(samples(outputs), samples(expected))
    same = ("dense_by_choice", "kept_share_map", "backends", "fallbacks")
    assert {name: report(outputs)[name] for name in same} == {name: report(expected)[name] for name in same}


def test_parts_of_a_batch_are_told_apart_by_their_place(private_options):
    of = private_options.conditionings_of
    both = of(None, {"cond_or_uncond": [0, 1]})
    assert len({*both, *of(None, {"cond_or_uncond": [0, 0]})}) == 3
    assert len({*of(None, {})}) == 1


def test_dense_blocks_count_the_calls_of_a_model_that_names_no_block(host, without):
    patch = carved(dense_blocks="1")
    named = report(run(host, patch))
    without("block_type", "block_index", "total_blocks")
    counted = report(run(host, patch))
    assert counted["dense_by_choice"] == named["dense_by_choice"] == {"dense_blocks": 4}


def test_a_block_is_what_the_model_says(private_options):
    assert private_options.block_of({}) is None
    assert private_options.block_of({"block_index": 3}) == Block("", 3, 0)


def test_anchors_take_a_short_run_for_a_long_one(host, without):
    words = "no anchors: 4 steps at this size"
    assert any(words in note for note in report(run(host, BALANCED))["notes"])
    without("sample_sigmas", "jenga_pass_sigmas")
    outputs = run(host, BALANCED)
    assert not any(words in note for note in report(outputs)["notes"]) and report(outputs)["anchors"]


def test_windows_are_told_apart_by_their_number_in_a_step(host, private_options, without):
    """Which is right for windows that stay where they are."""
    first, second = ({"context_window": SimpleNamespace(index_list=[start, start + 1])} for start in (0, 1))
    assert private_options.conditionings_of(None, first) != private_options.conditionings_of(None, second)
    settings = {"latent": LONG_CLIP, "steps": 12, "cfg": 1.0}
    patches = windows("standard_static"), dial("base", min_tokens=10**6, step_reuse="static")
    expected = run(host, *patches, **settings)
    without("context_window")
    assert private_options.conditionings_of(None, first) == private_options.conditionings_of(None, second)
    outputs = run(host, *patches, **settings)
    assert torch.equal(samples(outputs), samples(expected)) and report(outputs)["model_calls_reused"] > 0


def test_a_cache_is_not_spoken_of(host, without):
    words = "EasyCache is on this model"
    assert any(words in note for note in report(run(host, CACHE, carved()))["notes"])
    without("easycache")
    outputs = run(host, CACHE, carved())
    assert not any(words in note for note in report(outputs)["notes"]) and report(outputs)["fallbacks"] == {}


def test_the_patch_of_an_unknown_model_is_not_told(private_options):
    assert private_options.patches_of({"grid_sizes": (3, 12, 12)}, (1, 16, 3, 24, 24)) == ((1, 2, 2),)
    for options in ({}, {"grid_sizes": None}, {"grid_sizes": (3, 12)}):
        assert private_options.patches_of(options, (1, 16, 3, 24, 24)) == ()
