"""carved_attention: from tensors in the host's order to carved attention on the best backend that takes them.

Validate once -> plan (what depends on the grid alone: order, forced blocks, minimum) -> backend (every fallback with
its reason) -> prepare_blocks, select_blocks and tail_bias (or what is given), block_sparse_attention -> what was
really kept.
`CarvedAttention` keeps its plans, so hold one per run; `carved_attention` is the function for a single call.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from . import ops
from .call_checks import check_anchor_state, check_layout, check_tensors, checked_scale
from .config import Q_BLOCK_SIZE, JengaConfig, TokenGrid
from .dispatch import Backends, Implementation
from .exact import outruns_torch
from .operands import BlockLists, PreparedBlocks, Residual
from .plan import Plan, make_context_bias, make_plan
from .quantise import PRECISIONS
from .residuals import make_residual

DENSE = "dense"  # what CarvedResult.backend says where nothing was carved
MASKED_VIDEO = "kv_mask has a False on a video column: attention is dense"


@dataclass(frozen=True)
class CarvedResult:
    """What one call did.

    out         [B, H, S, D] in the order of q, memory [B, S, H, D]
    lse         fp32 [B, H, S], natural log, covers the tail; None where the call fell back to dense
    kept_share  fp32 scalar on the device of q, never read here: (video query row, video key) token pairs whose logit
                was computed, over all B * H * N * N such pairs. Tail cells and context are not counted.
    backend     native_cpu | native_cuda | flex | reference | dense; of jenga.runtime.session also anchor
    reason      why it is not the backend that the configuration asks for; empty where it is
    lists       the blocks that were kept; None where the call fell back to dense
    precision   16-bit | int8 | fp8: what the products of a carved call took
    tail_bias   fp32 [B, H, tail cells]: the log of how many keys each counts as; None where it is that of its tokens
    """

    out: torch.Tensor
    lse: torch.Tensor | None
    kept_share: torch.Tensor
    backend: str
    reason: str
    lists: BlockLists | None = None
    precision: str = "16-bit"
    tail_bias: torch.Tensor | None = None

    @property
    def ran(self) -> str:
        """The backend, with the precision where that is of 8 bits: native_cuda in fp8."""
        return self.backend if self.precision == "16-bit" else f"{self.backend} in {self.precision}"


def carved_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: TokenGrid,
    config: JengaConfig | None = None,
    video_start: int = 0,
    text_range: tuple[int, int] | None = None,
    kv_mask: torch.Tensor | None = None,
    softmax_scale: float | None = None,
) -> torch.Tensor:
    """Carved self-attention. q k v [B, H, S, D] in raster order -> [B, H, S, D] in the same order.

    Arguments and errors: `CarvedAttention.__call__`. config: JengaConfig() where None. The plan is made anew in every
    call; hold a `CarvedAttention` where calls repeat.
    """
    attention = CarvedAttention(config or JengaConfig())
    return attention(q, k, v, grid, video_start, text_range, kv_mask, softmax_scale).out


class CarvedAttention:
    """Carved attention with its plans: make one per run, configuration and device.

    backends: what the objects of one run and device share, so that each learns of a backend that failed; its own where
    None.
    """

    def __init__(self, config: JengaConfig | None = None, backends: Backends | None = None):
        self.config = config or JengaConfig()
        self._native = ops.native_status()
        self._backends = backends or Backends(self._native)
        self._plans: dict[tuple, Plan] = {}
        self._last_bias: tuple = (None, None, None)  # mask, (mask version, arguments), result

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        grid: TokenGrid,
        video_start: int = 0,
        text_range: tuple[int, int] | None = None,
        kv_mask: torch.Tensor | None = None,
        softmax_scale: float | None = None,
        lists: BlockLists | None = None,
        residual: Residual | None = None,
        tail_bias: torch.Tensor | None = None,
    ) -> CarvedResult:
        """Attention of q over k, v. Source: paper; compensation, context and masks ours.

        q k v          [B, H, S, D], one floating dtype and device, raster order, any strides
        grid           the video: tokens video_start .. video_start + t*h*w - 1; all others are context, which everybody
                       attends and which attends everything
        text_range     (start, stop) of context columns that get config.text_logit_bias on video rows
        kv_mask        bool [B, S]: False columns are never attended; on a video column it makes the call dense. One
                       tensor object is read once: do not change it in place between calls
        softmax_scale  D ** -0.5 where None
        lists          keep these blocks and select none; None: selected from q and k
        residual       added to out (not to lse), for video and context rows
        tail_bias      with lists: of the result that they are from; None: a tail cell counts as its tokens
        Raises TypeError or ValueError for input that breaks these rules, NoBackend where none takes it or all failed,
        PrecisionUnavailable where none has config.precision, RuntimeError for a tensor that needs grad and, with
        config.strict, for every fallback. A backend that raises is not tried again, the next one takes the call; out of
        memory alone goes to the caller.
        """
        check_tensors(q, k, v, kv_mask)
        batch, _, tokens, head_dim = q.shape
        check_layout(grid, tokens, video_start, text_range)
        check_anchor_state(q, grid, lists, residual, tail_bias)
        scale = head_dim**-0.5 if softmax_scale is None else checked_scale(softmax_scale)

        plan = self._plan(grid, tokens, video_start, q.device)
        context_bias, masked_video = self._context_bias(plan, batch, video_start, text_range, kv_mask)
        if masked_video:
            self._fall_back(MASKED_VIDEO)
            out = _dense(q, k, v, video_start, plan.num_video, kv_mask, self._text_bias(text_range), scale)
            return CarvedResult(out, None, torch.ones((), device=q.device), DENSE, MASKED_VIDEO)

        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))

        def carve(operators: Implementation, precision: str):
            return self._carve(operators, precision, plan, (q, k, v), context_bias, scale, lists, residual, tail_bias)

        ran = self._backends.run(self.config.backend, q, carve, self._fall_back, self.config.precision)
        (out, lse, kept, kept_share, weighed), (backend, precision, reason) = ran
        return CarvedResult(out, lse, kept_share, backend, reason, kept, precision, weighed)

    def outruns_dense(self, q: torch.Tensor) -> bool:
        """Whether a call that keeps every block, and so is exact, is faster than torch's own attention of q."""
        return outruns_torch(self._backends.choose(self.config.backend, q).backend, q)

    def pack_residual(self, dense: torch.Tensor, carved: CarvedResult, bits: int) -> Residual:
        """What `carved` missed of `dense` [B, H, S, D], for the calls after it. bits: 4, 8, or 16 for bfloat16."""

        def pack(operators: Implementation, _precision: str) -> Residual:
            return make_residual(dense, carved.out, bits, operators.pack_residual)

        return self._backends.run(self.config.backend, carved.out, pack, self._fall_back)[0]

    def _carve(
        self, operators: Implementation, precision: str, plan: Plan, qkv, bias, scale, lists, residual, tail_bias
    ):
        # Nothing is selected where lists are given, so nothing has to be compared.
        layout = plan.layout if lists is None else plan.layout._replace(q_cells=0, k_cells=0)
        blocks = operators.prepare_blocks(*qkv, layout, bias, PRECISIONS[precision])
        if lists is None:
            lists = self._select(operators, plan, blocks, scale)
            if self.config.weighs_tail:
                sizes = (plan.num_video, layout.k_cell_size, layout.tail_block_size)
                tail_bias = operators.tail_bias(blocks.q_means, blocks.k_means, *sizes, scale)
        blocks = PreparedBlocks(*blocks[:-1], tail_bias)  # torch 2.11 cannot trace _replace over a graph break
        out, lse = operators.block_sparse_attention(qkv[0], blocks, lists, scale, residual)
        kept_share = operators.kept_share(lists, plan.num_video, self.config.kv_block_size)
        return out, lse, lists, kept_share, tail_bias

    def _select(self, operators: Implementation, plan: Plan, blocks: PreparedBlocks, scale: float) -> BlockLists:
        config, num_video, q_means, k_means = self.config, plan.num_video, blocks.q_means, blocks.k_means
        if config.semantics == "published" and num_video % Q_BLOCK_SIZE:
            # The paper pads the last block with zeros that take part in its mean, and then counts it like any other.
            share = num_video % Q_BLOCK_SIZE / Q_BLOCK_SIZE
            q_means, k_means = (torch.cat([x[:, :, :-1], x[:, :, -1:] * share], 2) for x in (q_means, k_means))
            num_video += -num_video % Q_BLOCK_SIZE
        cells, rule = plan.layout.cells(num_video), (plan.min_blocks, config.top_p, scale)
        return operators.select_blocks(q_means, k_means, plan.forced_blocks, cells, *rule)

    def _plan(self, grid: TokenGrid, tokens: int, video_start: int, device: torch.device) -> Plan:
        key = (grid, tokens, video_start, device)
        if key not in self._plans:
            self._plans[key] = make_plan(grid, tokens, video_start, device, self.config, self._native.cpu)
        return self._plans[key]

    def _context_bias(self, plan: Plan, batch: int, video_start: int, text_range, kv_mask):
        """fp32 [B, P] logit bias of the context columns (None: all 0), and whether a video column is masked."""
        text_bias = self._text_bias(text_range)
        if kv_mask is None and text_bias is None:
            return None, False
        # A mask is read once (one host sync) and recognised by identity; this object keeps it alive meanwhile.
        version = None if kv_mask is None or kv_mask.is_inference() else kv_mask._version
        key = (version, batch, video_start, text_range, id(plan))
        if self._last_bias[0] is not kv_mask or self._last_bias[1] != key:
            self._last_bias = (kv_mask, key, make_context_bias(plan, batch, video_start, text_bias, kv_mask))
        return self._last_bias[2]

    def _text_bias(self, text_range) -> tuple[int, int, float] | None:
        if text_range is None or text_range[0] == text_range[1] or self.config.text_logit_bias == 0:
            return None
        return (*text_range, float(self.config.text_logit_bias))

    def _fall_back(self, reason: str, cause: Exception | None = None):
        if self.config.strict:
            raise RuntimeError(f"carved_attention: strict must not meet a fallback, got {reason}") from cause


def _dense(q, k, v, video_start: int, num_video: int, kv_mask, text_bias, scale: float) -> torch.Tensor:
    """Dense attention by the same rules: masked columns for everybody, text bias on video rows only.

    -inf does not hide a NaN, so masked keys and values are zeros here, as prepare_blocks makes them.
    """
    batch, heads, tokens, dim = q.shape
    out = q.new_empty(batch, tokens, heads, dim).transpose(1, 2)
    k, v = (torch.where(kv_mask[:, None, :, None], x, 0) for x in (k, v))
    mask = kv_mask[:, None, None, :]
    if text_bias is None:
        out.copy_(F.scaled_dot_product_attention(q, k, v, mask, scale=scale))
    else:
        start, stop, value = text_bias
        bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device)
        bias[..., start:stop] = value
        bias.masked_fill_(~mask, -torch.inf)
        end = video_start + num_video
        for rows, rule in ((slice(0, video_start), mask), (slice(video_start, end), bias), (slice(end, tokens), mask)):
            out[:, :, rows] = F.scaled_dot_product_attention(q[:, :, rows], k, v, rule, scale=scale)
    nothing = ~kv_mask.any(1)
    return out.masked_fill_(nothing[:, None, None, None], 0)
