"""What carving missed, packed and unpacked in plain torch: the oracle of the operator torch.ops.jenga.pack_residual."""

import torch

from .operands import Residual
from .quantise import scale_of


def pack_residual(dense: torch.Tensor, carved: torch.Tensor, bits: int) -> Residual:
    """What carving missed, dense - carved, in 8 or 4 bits with one scale per token and head. Source: ours.

    dense, carved [B, H, S, D]. Returns int8 [B, S, H, D] or uint8 [B, S, H, D / 2] (even channel in the low nibble,
    two's complement), and scale fp32 [B, S, H] = max |r| / qmax, qmax 127 or 7 (0 for a row of zeros).
    """
    limit = {8: 127, 4: 7}[bits]
    missed = (dense.float() - carved.float()).transpose(1, 2)
    scale = scale_of(missed.abs().amax(-1), limit)
    code = torch.where(scale[..., None] > 0, missed / scale[..., None], 0).round().clamp(-limit, limit).to(torch.int8)
    if bits == 8:
        return Residual(code.contiguous(), scale)
    nibble = code.view(torch.uint8) & 15
    return Residual(nibble[..., 0::2] | nibble[..., 1::2] << 4, scale)


def unpack_residual(residual: Residual, dtype: torch.dtype) -> torch.Tensor:
    """What pack_residual packed, or a float residual, as numbers [B, S, H, D]."""
    codes, scale = residual
    if scale is None:
        return codes.to(dtype)
    if codes.dtype == torch.uint8:
        nibbles = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2).to(torch.int8)
        codes = torch.where(nibbles > 7, nibbles - 16, nibbles)
    return codes.to(dtype) * scale[..., None].to(dtype)
