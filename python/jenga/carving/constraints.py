"""What every backend accepts, as data. A refusal names the parameter and the reason, so that a fallback can say why."""

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class EightBits:
    """Inputs that one backend takes in a precision of 8 bits.

    auto_tokens: by compute capability, the fewest tokens from which precision "auto" takes it: where it was timed and
    is faster at every share from 2 % on, within its error (benchmarks/RESULTS.md). Others ask for it by name.
    """

    head_dim_multiple: int
    max_head_dim: int
    compute_capabilities: tuple[tuple[int, ...], ...] = ()  # of a CUDA device: (8, 9), or (12,) for 12.x; (): any
    auto_tokens: "dict[tuple[int, int], int]" = field(default_factory=dict)


@dataclass(frozen=True)
class Constraint:
    """Inputs that one backend takes. device_types None: any."""

    device_types: tuple[str, ...] | None
    dtypes: tuple[torch.dtype, ...]
    head_dim_multiple: int
    min_head_dim: int
    max_head_dim: int
    max_tokens: int
    min_compute_capability: tuple[int, int] = (0, 0)  # of a CUDA device
    precisions: tuple[str, ...] = ("16-bit",)  # of quantise.PRECISIONS
    eight_bits: "dict[str, EightBits]" = field(default_factory=dict)  # what those ask for besides


@dataclass(frozen=True)
class Refusal:
    """Why a backend does not take an input: the parameter, and the rule with the value that broke it."""

    parameter: str
    reason: str

    def __str__(self) -> str:
        return f"{self.parameter} {self.reason}"


_INT32_TOKENS = 2**31 - 1  # token_index and the lists are int32
_NO_LIMIT = 2**62

CONSTRAINTS = {
    "native_cpu": Constraint(("cpu",), (torch.float32, torch.bfloat16, torch.float16), 8, 8, 256, _INT32_TOKENS),
    "native_cuda": Constraint(
        ("cuda",),
        (torch.bfloat16, torch.float16),
        *(8, 8, 256, _INT32_TOKENS, (8, 0), ("16-bit", "int8", "fp8")),
        {"int8": EightBits(16, 128), "fp8": EightBits(128, 128, ((8, 9), (9, 0), (12,)), {(9, 0): 16_384})},
    ),
    # Triton multiplies tiles of at least 16 channels.
    "flex": Constraint(("cuda",), (torch.float32, torch.bfloat16, torch.float16), 8, 16, 256, _INT32_TOKENS, (7, 0)),
    "reference": Constraint(
        None,
        (torch.float64, torch.float32, torch.bfloat16, torch.float16),
        *(1, 1, _NO_LIMIT, _INT32_TOKENS),
        precisions=("16-bit", "int8", "fp8"),
    ),
}


def refusal(backend: str, q: torch.Tensor, precision: str = "16-bit") -> Refusal | None:
    """Why `backend` (a key of CONSTRAINTS) does not take q [B, H, S, D] and its equals k, v; None: it does."""
    rule = CONSTRAINTS[backend]
    tokens, head_dim = q.shape[2:]
    if rule.device_types is not None and q.device.type not in rule.device_types:
        return Refusal("device", f"must be {' or '.join(rule.device_types)}, got {q.device.type}")
    capability = None
    if q.device.type == "cuda":
        capability = torch.cuda.get_device_capability(q.device)
        if capability < rule.min_compute_capability:
            wanted, found = (".".join(map(str, x)) for x in (rule.min_compute_capability, capability))
            return Refusal("device", f"must have compute capability {wanted} or newer, got {found}")
    if q.dtype not in rule.dtypes:
        return Refusal("dtype", f"must be {', '.join(map(dtype_name, rule.dtypes))}, got {dtype_name(q.dtype)}")
    if head_dim % rule.head_dim_multiple or not rule.min_head_dim <= head_dim <= rule.max_head_dim:
        limits = f"from {rule.min_head_dim} to {rule.max_head_dim}"
        return Refusal("head dim", f"must be a multiple of {rule.head_dim_multiple} {limits}, got {head_dim}")
    if tokens > rule.max_tokens:
        return Refusal("tokens", f"must be at most {rule.max_tokens}, got {tokens}")
    if precision not in rule.precisions:
        return Refusal("precision", f"must be {', '.join(rule.precisions)}, got {precision}")
    eight_bits = rule.eight_bits.get(precision)
    if eight_bits is None:
        return None
    multiple, largest = eight_bits.head_dim_multiple, eight_bits.max_head_dim
    if head_dim % multiple or head_dim > largest:
        others = (
            f"other than {largest}" if multiple == largest else f"that are no multiple of {multiple} up to {largest}"
        )
        return Refusal("precision", f"must be 16-bit for head dims {others}, got {precision} for {head_dim}")
    having = eight_bits.compute_capabilities
    if having and not any(capability[: len(x)] == x for x in having):
        *most, last = (".".join(map(str, x)) for x in having)
        found = ".".join(map(str, capability))
        wanted = f"16-bit or int8 for compute capabilities other than {', '.join(most)} and {last}"
        return Refusal("precision", f"must be {wanted}, got {precision} on {found}")
    return None


def auto_precision(backend: str, q: torch.Tensor) -> str:
    """The precision that "auto" is for q on `backend`, if nothing speaks against it there: 8 bits where they pay."""
    if q.device.type == "cuda":
        capability, tokens = torch.cuda.get_device_capability(q.device), q.shape[2]
        for precision, eight_bits in CONSTRAINTS[backend].eight_bits.items():
            if tokens >= eight_bits.auto_tokens.get(capability, tokens + 1) and not refusal(backend, q, precision):
                return precision
    return "16-bit"


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
