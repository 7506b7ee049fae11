"""Which backend runs: what this machine has, what takes an input, and the functions behind a backend's name."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch

from . import ops, reference, self_test
from .constraints import auto_precision, refusal
from .quantise import PRECISIONS
from .residuals import kept_share_of

T = TypeVar("T")
EIGHT_BIT = tuple(name for name in PRECISIONS if name != "16-bit")


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can run on this machine, and why not."""

    name: str
    available: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {'available' if self.available else self.reason}"


class Implementation(NamedTuple):
    """The operators of one backend; signatures as in `jenga.carving.reference`, kept_share as `kept_share_of`."""

    prepare_blocks: Callable
    select_blocks: Callable
    tail_bias: Callable
    block_sparse_attention: Callable
    pack_residual: Callable
    kept_share: Callable


def unavailable(native: ops.NativeStatus) -> dict[str, str]:
    """Backend -> why this machine cannot run it; empty where it can."""
    no_cuda = "" if torch.cuda.is_available() else "torch sees no CUDA device"
    no_triton = "" if importlib.util.find_spec("triton") else "Triton is not installed"
    no_library = "" if native.cuda else native.reason or "the native CUDA library is not loaded"
    return {
        "native_cuda": no_cuda or no_library,
        "flex": no_cuda or no_triton,
        "native_cpu": "" if native.cpu else native.reason or "the native library is not loaded",
        "reference": "",
    }


def backends() -> list[BackendStatus]:
    """Every backend, whether it can run on this machine, and why not."""
    return [BackendStatus(name, not reason, reason) for name, reason in unavailable(ops.native_status()).items()]


class NoBackend(RuntimeError):
    """Not even the last resort takes this input, or it has failed too."""


class PrecisionUnavailable(ValueError):
    """A precision was asked for by name, and no backend has it for this input."""


class Choice(NamedTuple):
    """The backend and the precision for an input; reason: why none of those before it, empty where it is the first."""

    backend: str
    precision: str
    reason: str


class Backends:
    """The backends that still work: state of one run on one device. One that fails is not tried again in the precision
    that it failed in.
    """

    def __init__(self, native: ops.NativeStatus | None = None):
        self._unavailable = unavailable(native or ops.native_status())
        self._failed: dict[tuple[str, str], str] = {}  # by backend and precision: how

    def choose(self, requested: str, q: torch.Tensor, precision: str = "16-bit") -> Choice:
        """The first backend that can run and takes q, and why the ones before it do not.

        requested: JengaConfig.backend; precision: of quantise.PRECISIONS, or auto: 8 bits where `auto_precision` has
        them, and where those fail 16. Raises NoBackend where none is left, PrecisionUnavailable where none is left for
        8 bits by name: those are for speed, so that the reference, which makes 8 bits out of 32, takes them only where
        it is asked for by name.
        """
        reasons = []
        for backend, taken in self._candidates(requested, q, precision):
            reason = self._unavailable[backend] or self._failed.get((backend, taken)) or refusal(backend, q, taken)
            if not reason and backend.startswith("native"):
                reason = self_test.failure(q.device, q.dtype, q.shape[3], taken)
            if not reason:
                return Choice(backend, taken, "; ".join(reasons))
            reasons.append(f"{backend}{'' if taken in (precision, '16-bit') else f' in {taken}'}: {reason}")
        if precision in EIGHT_BIT:
            raise PrecisionUnavailable(
                f"carved_attention: precision must be one that a backend has here, got {precision} "
                f"({'; '.join(reasons)}); take precision auto or 16-bit, or backend reference to look at the rounding"
            )
        raise NoBackend(f"carved_attention: q must be taken by a backend, got {'; '.join(reasons)}")

    def run(
        self,
        requested: str,
        q: torch.Tensor,
        call: Callable[["Implementation", str], T],
        fall_back: Callable[[str, Exception | None], None],
        precision: str = "16-bit",
    ) -> tuple[T, Choice]:
        """call(operators, precision) of the first choice that can run it, and that choice, as from `choose`.

        fall_back(reason, cause): told before the call where there is a reason; may raise. Out of memory goes to the
        caller: another backend would need as much.
        """
        error: Exception | None = None
        try:
            while True:
                choice = self.choose(requested, q, precision)
                if choice.reason:
                    fall_back(choice.reason, error)
                try:
                    return call(implementation(choice.backend), choice.precision), choice
                except torch.OutOfMemoryError:
                    raise
                except Exception as raised:  # whatever a kernel, a driver or a compiler says
                    error = raised
                    self._failed[choice.backend, choice.precision] = _words_of(raised)
        finally:
            error = None  # its traceback holds this frame, and with it the tensors

    def _candidates(self, requested: str, q: torch.Tensor, precision: str) -> Iterator[tuple[str, str]]:
        """Backends and precisions in the order in which they are tried; the reference is the last resort, in 16 bits
        alone.
        """
        if requested == "reference":
            names = ("reference",)
        else:
            native = ("native_cuda", "flex") if q.device.type == "cuda" else ("native_cpu",)
            last = () if precision in EIGHT_BIT else ("reference",)
            names = (*(("flex",) if requested == "flex" else native), *last)
        for backend in names:
            if precision == "auto" and not self._unavailable[backend]:
                best = auto_precision(backend, q)
                if best != "16-bit":
                    yield backend, best
            yield backend, "16-bit" if precision == "auto" else precision


def _words_of(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"failed with {type(error).__name__}" + (f": {lines[0][:200]}" if lines else "")


def implementation(backend: str) -> Implementation:
    """The operators of a backend that `choose` named."""
    native = backend.startswith("native")
    source, kept_share = (ops, ops.kept_share) if native else (reference, kept_share_of)
    attention = source.block_sparse_attention
    if backend == "flex":
        from . import flex  # here: its import pulls in torch's higher-order operators

        attention = flex.block_sparse_attention
    blocks = source.prepare_blocks, source.select_blocks, source.tail_bias
    return Implementation(*blocks, attention, source.pack_residual, kept_share)
