"""What a user may say about carved attention: the token grid and a frozen, validated configuration."""

import math
from dataclasses import dataclass
from numbers import Integral, Real

Q_BLOCK_SIZE = 128  # query rows that share one list of kept key blocks

CURVES = ("gilbert3d", "gilbert2d_sliced", "raster")
KV_BLOCK_SIZES = (64, 128)
TAIL_BLOCK_SIZES = (32, 64, 128)
SCORE_CELLS = (1, 2, 4, 8)
COMPENSATIONS = ("mean", "none")
BACKENDS = ("auto", "native", "flex", "reference")
SEMANTICS = ("corrected", "published")
PRECISIONS = ("auto", "16-bit", "int8", "fp8")
RESIDUAL_BITS = (4, 8, 16)


@dataclass(frozen=True)
class TokenGrid:
    """Video tokens after patchify: t latent frames of h rows and w columns. Raster index = (t_i * h + y) * w + x.

    Raises ValueError where a side is not a positive integer.
    """

    t: int
    h: int
    w: int

    def __post_init__(self):
        for name in ("t", "h", "w"):
            side = getattr(self, name)
            if not isinstance(side, Integral) or isinstance(side, bool) or side < 1:
                raise ValueError(f"TokenGrid: {name} must be a positive integer, got {side!r}")

    @property
    def num_tokens(self) -> int:
        return self.t * self.h * self.w


@dataclass(frozen=True)
class JengaConfig:
    """How attention is carved. Frozen and checked; raises ValueError that names the field, the rule and the value.

    density          in (0, 1]: key blocks kept for every block of 128 queries, before any union (`min_blocks`)
    top_p            in [0, 1]: keep more blocks until their pooled softmax mass exceeds this; 0 adds none
    kv_block_size    64 or 128 tokens: the unit that is kept or dropped
    tail_block_size  32, 64 or 128 tokens, divides kv_block_size: the unit that stands for dropped tokens
    score_cells      (query cells, key cells), each 1, 2, 4 or 8: the parts of a block whose means are compared to
                     choose what is kept; more see more of what is inside a block
    curve            gilbert3d | gilbert2d_sliced | raster: the order in which tokens form blocks
    adjacency        also keep blocks that touch the query block in the 3-D grid (with gilbert2d_sliced: and the whole
                     first frame for queries of the first frame)
    compensation     mean: dropped cells stay in the softmax as one mean token each, which counts as its tokens and as
                     much more as the parts of the cell tell (ours; operator tail_bias) | none (paper)
    text_logit_bias  finite, natural log: added to the logits of text_range columns on video rows
    backend          auto | native | flex | reference; auto takes the fastest that accepts the input
    strict           a fallback raises RuntimeError instead of being reported
    semantics        corrected (ours) | published (paper); build the second with `JengaConfig.published`
    precision        auto | 16-bit | int8 (queries and keys in 8 bits) | fp8 (weights and values as e4m3 besides; on
                     compute capabilities 8.9, 9.0 and 12, for head dim 128); one that no backend has for the input
                     raises PrecisionUnavailable; auto is fp8 where that is faster and within its error, on compute
                     capability 9.0 from 16,384 tokens on, else 16-bit
    """

    density: float = 0.2
    top_p: float = 0.0
    kv_block_size: int = 64
    tail_block_size: int = 64
    score_cells: tuple[int, int] = (8, 8)
    curve: str = "gilbert3d"
    adjacency: bool = False
    compensation: str = "mean"
    text_logit_bias: float = 0.0
    backend: str = "auto"
    strict: bool = False
    semantics: str = "corrected"
    precision: str = "auto"

    def __post_init__(self):
        self._require("density", _is_number(self.density) and 0 < self.density <= 1, "be in (0, 1]")
        self._require("top_p", _is_number(self.top_p) and 0 <= self.top_p <= 1, "be in [0, 1]")
        self._require(
            "text_logit_bias", _is_number(self.text_logit_bias) and math.isfinite(self.text_logit_bias), "be finite"
        )
        for name, allowed in (
            ("kv_block_size", KV_BLOCK_SIZES),
            ("tail_block_size", TAIL_BLOCK_SIZES),
            ("curve", CURVES),
            ("adjacency", (False, True)),
            ("compensation", COMPENSATIONS),
            ("backend", BACKENDS),
            ("strict", (False, True)),
            ("semantics", SEMANTICS),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, name)
            matches = any(type(value) is type(choice) and value == choice for choice in allowed)
            self._require(name, matches, f"be one of {', '.join(map(str, allowed))}")
        self._require(
            "tail_block_size",
            self.kv_block_size % self.tail_block_size == 0,
            f"divide kv_block_size {self.kv_block_size}",
        )
        cells = self.score_cells
        pair = isinstance(cells, tuple) and len(cells) == 2 and all(_is_count(x) and x in SCORE_CELLS for x in cells)
        self._require("score_cells", pair, f"be two of {', '.join(map(str, SCORE_CELLS))}")
        if self.semantics == "published":
            remedy = "with semantics 'published'; use JengaConfig.published(drop, top_p)"
            self._require("kv_block_size", self.kv_block_size == 128, f"be 128 {remedy}")
            self._require("score_cells", cells == (1, 1), f"be (1, 1) {remedy}")
            self._require("adjacency", self.adjacency, f"be True {remedy}")
            self._require("compensation", self.compensation == "none", f"be none {remedy}")

    @classmethod
    def published(cls, drop: float, top_p: float, curve: str = "gilbert3d", **other) -> "JengaConfig":
        """The paper's carving: 128-token blocks, adjacency, dropped blocks simply dropped.

        drop: the paper's drop rate in [0, 1). density becomes the double 1 - drop and must stay it: the paper's block
        counts are int((1 - drop) * blocks), where double rounding shows (drop 0.8 of 900 blocks keeps 179).
        curve: gilbert3d for HunyuanVideo, gilbert2d_sliced for Wan. other: any further field of JengaConfig; without a
        precision among them it is 16-bit.
        """
        if not _is_number(drop) or not 0 <= drop < 1:
            raise ValueError(f"JengaConfig: drop must be in [0, 1), got {drop!r}")
        return cls(
            density=1 - drop,
            top_p=top_p,
            kv_block_size=128,
            tail_block_size=128,
            score_cells=(1, 1),
            curve=curve,
            adjacency=True,
            compensation="none",
            semantics="published",
            **{"precision": "16-bit"} | other,
        )

    def num_kv_blocks(self, num_video: int) -> int:
        """Video key blocks of `num_video` tokens; the last one may be ragged."""
        return -(-num_video // self.kv_block_size)

    @property
    def weighs_tail(self) -> bool:
        """Whether tail cells have parts that tell what they count as (operator tail_bias)."""
        return self.compensation == "mean" and self.tail_block_size * self.score_cells[1] > self.kv_block_size

    def min_blocks(self, num_video: int) -> int:
        """Video key blocks that every (head, query block) keeps at least, of `num_kv_blocks(num_video)`."""
        if self.semantics == "published":
            # The 3-D family divides N by 128 exactly (it knows no ragged block), the sliced one rounds up.
            blocks = num_video // 128 if self.curve == "gilbert3d" else self.num_kv_blocks(num_video)
            return max(1, int(self.density * blocks))
        # 1e-9: a density like 0.07 must not become one block more by its last bit (0.07 * 100 = 7.000000000000001).
        return max(1, math.ceil(self.density * self.num_kv_blocks(num_video) - 1e-9))

    def _require(self, name: str, condition: bool, rule: str):
        if not condition:
            raise ValueError(f"JengaConfig: {name} must {rule}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class AnchorConfig:
    """How often carving is put right by dense attention (ours). Raises ValueError like JengaConfig.

    distance       a layer is an anchor on every distance-th step, the layers one after the other; at least 2, or 0 for
                   the first step of every size alone
    residual_bits  4 | 8 | 16 (bfloat16): how exactly the steps in between know what carving misses
    memory         bytes that residuals may take on the device; None: a share of what is free when the run starts
    density        kept share in (0, 1] where there are anchors, usually less than without; None: JengaConfig's
    min_steps      a sampler call, that is a stage, of fewer steps has no anchors: its first step is dense in all layers
    """

    distance: int = 8
    residual_bits: int = 4
    memory: int | None = None
    density: float | None = None
    min_steps: int = 0

    def __post_init__(self):
        self._require("distance", _is_count(self.distance) and self.distance != 1, "be 0 or an integer of at least 2")
        bits = _is_count(self.residual_bits) and self.residual_bits in RESIDUAL_BITS
        self._require("residual_bits", bits, f"be one of {', '.join(map(str, RESIDUAL_BITS))}")
        self._require("memory", self.memory is None or _is_count(self.memory), "be None or bytes, at least 0")
        density = self.density is None or (_is_number(self.density) and 0 < self.density <= 1)
        self._require("density", density, "be None or in (0, 1]")
        self._require("min_steps", _is_count(self.min_steps), "be an integer of at least 0")

    def _require(self, name: str, condition: bool, rule: str):
        if not condition:
            raise ValueError(f"AnchorConfig: {name} must {rule}, got {getattr(self, name)!r}")


def _is_count(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
