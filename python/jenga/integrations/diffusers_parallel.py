"""One sequence over several GPUs in diffusers: the library moves the tensors, every rank carves its heads.

What is diffusers' own in it; what the ranks of any engine agree on is in ranks.py.
"""

MEASURING_CACHES = ("FirstBlockCache", "SeaCache")
RING_REMEDY = "Use ContextParallelConfig(ulysses_degree=...)"


def context_parallel_plan(transformer) -> dict:
    """The cp_plan argument of the library's enable_parallelism: how a forward's tensors are split over the ranks.

    Wan, LTX and MiniMax H3 have the library's own. That of HunyuanVideo is ours: video and text are split each, and
    come back into their order between the exchanges, which only a transformer with Jenga on it does. Raises ValueError
    for any other: the library's plan for LTX-2 leaves a part of its rotary embedding whole, and the others have none.
    """
    from diffusers.hooks.context_parallel import ContextParallelInput, ContextParallelOutput

    name = type(transformer).__name__
    if name in ("WanTransformer3DModel", "LTXVideoTransformer3DModel", "MiniMaxH3Transformer3DModel"):
        return transformer._cp_plan
    if name != "HunyuanVideoTransformer3DModel":
        known = "Wan, LTX, HunyuanVideo or MiniMax H3"
        raise ValueError(f"context_parallel_plan: transformer must be of {known}, got {name}")
    if transformer.config.image_condition_type == "token_replace":
        raise ValueError(
            "context_parallel_plan: transformer must treat all tokens alike, got image_condition_type 'token_replace', "
            "which finds the first frame by its place in the sequence"
        )
    tokens = ContextParallelInput(split_dim=1, expected_dims=3)
    rotary = ContextParallelInput(split_dim=0, expected_dims=2, split_output=True)
    return {
        "transformer_blocks.0": {"hidden_states": tokens, "encoder_hidden_states": tokens},
        "rope": {0: rotary, 1: rotary},
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }


def refuse_measuring_cache(name: str) -> None:
    """name: of the library's step cache on a transformer whose sequence several ranks share, empty for none."""
    if name in MEASURING_CACHES:
        raise ValueError(
            f"context parallel: the step cache must decide by the schedule alone, got {name}; it measures what its own "
            "rank holds of the sequence, and ranks that decide apart wait for each other forever. Use MagCache, "
            "FasterCache or PyramidAttentionBroadcast"
        )
