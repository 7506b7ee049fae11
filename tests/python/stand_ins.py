"""What tests put in the place of tensors on devices that this machine has not."""

from types import SimpleNamespace

import torch


def tensor_on(device: str, dtype=torch.float16, head_dim: int = 64, tokens: int = 432):
    """All that the choice of a backend looks at."""
    return SimpleNamespace(device=torch.device(device), dtype=dtype, shape=(1, 2, tokens, head_dim))
