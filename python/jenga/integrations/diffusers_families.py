"""Which transformers of diffusers Jenga knows: where their self-attention over the video is, and how its tokens lie.

By class name, so that nothing of diffusers is imported here. Shapes are those of the transformer's forward arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..carving.config import TokenGrid
from ..runtime.call import Block
from ..runtime.layout import TokenLayout, latent_grid


@dataclass(frozen=True)
class Family:
    """One family.

    stacks: (list of blocks, attention in a block, the block's type) in the order in which blocks are numbered.
    layout(transformer, arguments): how tokens lie in a model call, by the arguments' names; None where they do not say.
    joint: text and video are one sequence.
    dispatched: its processors call the library's dispatcher; otherwise they call torch's attention themselves.
    each_sample: they call it for one sample of the batch after the other, with that sample's text alone.
    square_mask: they make a mask [B, 1, S, S] out of one of the text tokens [B, text], which is the same for all keys.
    head_masks: masks of its cross-attention are repeated for all heads, which is wrong where ranks have some of them.
    """

    stacks: tuple[tuple[str, str, str], ...]
    layout: Callable[[object, Mapping], TokenLayout | None]
    joint: bool = False
    dispatched: bool = True
    each_sample: bool = False
    square_mask: bool = False
    head_masks: bool = False

    def context(self, arguments: Mapping) -> int:
        """Tokens beside the video in the sequence, where it holds the text too."""
        return arguments["encoder_hidden_states"].shape[1] if self.joint else 0

    def layers(self, transformer) -> Iterator[tuple[object, Block]]:
        """Every attention module over the video, and its block."""
        for blocks, attention, type_ in self.stacks:
            stack = getattr(transformer, blocks)
            for index, block in enumerate(stack):
                yield getattr(block, attention), Block(type_, index, len(stack))


def _patch(config) -> tuple[int, int, int]:
    if isinstance(config.patch_size, int):
        return (getattr(config, "patch_size_t", None) or 1, config.patch_size, config.patch_size)
    return tuple(config.patch_size)


def _video(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, C, T, H, W], and the sequence is the video alone."""
    return TokenLayout(latent_grid(_patch(transformer.config), arguments["hidden_states"].shape))


def _video_text(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, C, T, H, W]; the sequence is [video, text]."""
    grid = latent_grid(_patch(transformer.config), arguments["hidden_states"].shape)
    return TokenLayout(grid, text=(grid.num_tokens, None))


def _text_video(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, T, C, H, W]; the sequence is [text, video]."""
    batch, frames, channels, height, width = arguments["hidden_states"].shape
    grid = latent_grid(_patch(transformer.config), (frames, height, width))
    num_text = arguments["encoder_hidden_states"].shape[1]
    return TokenLayout(grid, None, (0, num_text), num_text)


def _channels_last(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, T, H, W, C], and the sequence is the video alone."""
    return TokenLayout(latent_grid(_patch(transformer.config), arguments["hidden_states"].shape[:-1]))


def _patched(transformer, arguments: Mapping) -> TokenLayout | None:
    """hidden_states [B, S, C] in patches; num_frames, height and width are the latent's. Reference frames come last."""
    sizes = tuple(arguments.get(name) for name in ("num_frames", "height", "width"))
    if None in sizes:
        return None
    grid = TokenGrid(*(size // side for size, side in zip(sizes, _patch(transformer.config), strict=True)))
    return TokenLayout(grid)


WAN = Family((("blocks", "attn1", ""),), _video)
LTX = Family((("transformer_blocks", "attn1", ""),), _patched, head_masks=True)
FAMILIES: Mapping[str, Family] = {
    "WanTransformer3DModel": WAN,
    "WanVACETransformer3DModel": Family((("blocks", "attn1", ""), ("vace_blocks", "attn1", "vace")), _video),
    "WanAnimateTransformer3DModel": WAN,
    "SkyReelsV2Transformer3DModel": WAN,
    "HunyuanVideoTransformer3DModel": Family(
        (("transformer_blocks", "attn", "double"), ("single_transformer_blocks", "attn", "single")),
        _video_text,
        joint=True,
    ),
    "HunyuanVideo15Transformer3DModel": Family(
        (("transformer_blocks", "attn", ""),), _video_text, joint=True, square_mask=True
    ),
    "LTXVideoTransformer3DModel": LTX,
    "LTX2VideoTransformer3DModel": LTX,
    "CogVideoXTransformer3DModel": Family(
        (("transformer_blocks", "attn1", ""),), _text_video, joint=True, dispatched=False
    ),
    # Its sparse models put other tokens next to each other: they come with a mask, and stay dense for it.
    "Kandinsky5Transformer3DModel": Family((("visual_transformer_blocks", "self_attention", ""),), _channels_last),
    "CosmosTransformer3DModel": Family((("transformer_blocks", "attn1", ""),), _video, dispatched=False),
    "MochiTransformer3DModel": Family(
        (("transformer_blocks", "attn1", ""),), _video_text, joint=True, dispatched=False, each_sample=True
    ),
}


def family_of(transformer) -> Family | None:
    """The family of a module, by its class or one that it is made from; None for any other."""
    return next((FAMILIES[cls.__name__] for cls in type(transformer).__mro__ if cls.__name__ in FAMILIES), None)
