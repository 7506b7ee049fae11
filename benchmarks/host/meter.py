"""Where the time of a run goes, and attention by cuDNN in the stock one's place.

Times are taken between pairs of events on the stream, so that no step waits for its figures; on a CPU by the clock. The
pairs lie around each prediction of the sampler, outside of every other wrapper; around the forward of the model; around
each of its linear layers; and around each call of the attention override, outside of every other override. What a run
of Jenga tells its listener is inside the last: the time of an attention call itself, and what kind of call it was.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import record_function

from benchmarks.host.library import pack_module
from jenga.report.report import LayerCall
from jenga.runtime.anchors import ANCHOR
from jenga.runtime.measure import Stopwatch

OVERRIDE = "optimized_attention_override"
WRAPPED = "jenga_benchmark"  # in the options of a run that is measured
PREDICTION = "benchmark: prediction"  # the name of a prediction in a profile


@dataclass(frozen=True)
class Times:
    """One run: seconds, and what they are the sum of.

    attention: every call of the host's attention function, cross-attention and the text refiner's too; anchors: of it,
    the calls that were anchors. linear: linear layers. rest: all else in the model's forward. patch: in a prediction
    outside of the forward, and in the override outside of the attention call that the listener was told; ComfyUI's own
    work around the model and the steps that compute nothing are in it. between: outside of predictions, the sampler and
    changes of size. computed and reused: predictions that ran linear layers, and that did not. peak: most bytes that
    torch had allocated on the device, weights among them; None on a CPU.
    """

    seconds: float
    attention: float
    anchors: float
    linear: float
    rest: float
    patch: float
    between: float
    computed: float
    reused: float
    peak: int | None

    @property
    def predictions(self) -> float:
        """Seconds of all predictions."""
        return self.seconds - self.between

    def of_steps(self, steps: int) -> "Times":
        """A run of so many steps, each of which takes what one of this run took. What lies between is paid once."""
        factor = steps / (self.computed + self.reused)
        names = {one.name for one in fields(self)} - {"seconds", "between", "peak"}
        grown = {name: getattr(self, name) * factor for name in names}
        return replace(self, seconds=self.between + self.predictions * factor, **grown)


@dataclass
class _Prediction:
    """What was timed in one: itself, the model's forwards, linear layers, and attention calls as Jenga knows them."""

    whole: Stopwatch
    forwards: list[Stopwatch] = field(default_factory=list)
    linear: list[Stopwatch] = field(default_factory=list)
    attention: list[tuple[Stopwatch, LayerCall | None]] = field(default_factory=list)


class Meter:
    """Measures runs of `patcher`, a clone of the MODEL that is given. One run at a time, by `run`."""

    def __init__(self, patcher):
        self.patcher = patcher.clone()
        self._private = pack_module("nodes.host.private")
        self._carved = pack_module("nodes.host.override").CARVED_KEY
        self._predictions: list[_Prediction] = []
        options = self.patcher.model_options["transformer_options"]
        self._inner = options.get(OVERRIDE)
        options[OVERRIDE] = self._attention
        self._private.wrap_first(self.patcher, self._private.OUTER_SAMPLE, "benchmark", self._outer_sample)

    def run(self, sample: Callable[[], torch.Tensor], device: torch.device) -> tuple[torch.Tensor, Times]:
        """sample() on `patcher`, and where its time went."""
        self._predictions.clear()
        on_gpu = device.type == "cuda"
        with self._hooks():
            if on_gpu:
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
            start = time.perf_counter()
            out = sample()
            if on_gpu:
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - start
        return out, self._times(seconds, torch.cuda.max_memory_allocated(device) if on_gpu else None)

    def _outer_sample(self, executor, *args, **kwargs):
        """Ours is in the options of the run before any other wrapper of a prediction: those of Jenga's runs too. Once,
        since the stages of a run have its options.
        """
        options = executor.class_obj.model_options
        if WRAPPED not in options:
            options[WRAPPED] = True
            self._private.wrap_options(options, self._private.PREDICT_NOISE, "benchmark", self._predict)
        return executor(*args, **kwargs)

    def _predict(self, executor, x, *args, **kwargs):
        with record_function(PREDICTION):
            self._predictions.append(_Prediction(Stopwatch(x.device)))
            out = executor(x, *args, **kwargs)
            self._predictions[-1].whole.stop()
        return out

    def _attention(self, func: Callable, q, k, *args, **kwargs):
        watch, calls = Stopwatch(q.device), self._calls(kwargs)
        known = len(calls)
        out = func(q, k, *args, **kwargs) if self._inner is None else self._inner(func, q, k, *args, **kwargs)
        told = calls[-1] if len(calls) > known else None
        self._predictions[-1].attention.append((watch.stop(), told))
        return out

    def _calls(self, kwargs: dict) -> list[LayerCall]:
        """The calls that Jenga has told of so far in this prediction; empty without it."""
        carved = (kwargs.get("transformer_options") or {}).get(self._carved)
        return [] if carved is None else carved.run.listener.evaluations[-1].calls

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Watches around the forward and around each linear layer in one, while it lasts: an estimate of the model's
        change may ask its time embedding alone.
        """
        model, open_watches = self.patcher.model.diffusion_model, {}

        def begin(module, inputs):
            if module is not model and model not in open_watches:
                return
            open_watches[module] = Stopwatch(next(x for x in inputs if isinstance(x, torch.Tensor)).device)

        def end(module, *_):
            if module not in open_watches:
                return
            kept = self._predictions[-1].forwards if module is model else self._predictions[-1].linear
            kept.append(open_watches.pop(module).stop())

        with ExitStack() as hooks:
            for module in model.modules():
                if module is model or isinstance(module, torch.nn.Linear):
                    hooks.callback(module.register_forward_pre_hook(begin).remove)
                    hooks.callback(module.register_forward_hook(end).remove)
            yield

    def _times(self, seconds: float, peak: int | None) -> Times:
        whole, forward, linear, override, inside, anchors = (0.0,) * 6
        for prediction in self._predictions:
            whole += prediction.whole.seconds()
            forward += sum(watch.seconds() for watch in prediction.forwards)
            linear += sum(watch.seconds() for watch in prediction.linear)
            for watch, call in prediction.attention:
                taken = watch.seconds()
                told = taken if call is None else call.seconds
                override, inside = override + taken, inside + told
                anchors += told if call is not None and call.kind == ANCHOR else 0.0
        computed = sum(bool(prediction.forwards) for prediction in self._predictions)
        return Times(
            seconds,
            attention=inside,
            anchors=anchors,
            linear=linear,
            rest=forward - override - linear,
            patch=whole - forward + override - inside,
            between=seconds - whole,
            computed=computed,
            reused=len(self._predictions) - computed,
            peak=peak,
        )


def cudnn_attention(func: Callable, q, k, v, *args, **kwargs):
    """An override that answers with cuDNN: a context around the forward is not heard, ComfyUI sets its own inside."""
    call = pack_module("nodes.host.override").AttentionCall.read(q, k, v, args, kwargs)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        out = torch.nn.functional.scaled_dot_product_attention(call.q, call.k, call.v, call.mask, scale=call.scale)
    return call.output(out)


def with_override(patcher, override: Callable):
    """A clone of a MODEL with this attention override."""
    clone = patcher.clone()
    clone.model_options["transformer_options"][OVERRIDE] = override
    return clone
