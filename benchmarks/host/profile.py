"""Predictions in torch's profiler: which operators their time goes to, and how often the host waits for the device."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.host.meter import PREDICTION

# What makes the host wait: on a GPU the driver's calls. A CPU has nothing to wait for, but what reads a value out of a
# tensor there would wait on a GPU.
WAITS = {
    "cuda": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"),
    "cpu": ("aten::_local_scalar_dense",),
}
# The profiler's own event of a host that waits until the device takes more launches; kernels of then count twice.
NO_OPERATOR = "Command Buffer Full"


@dataclass(frozen=True)
class Profile:
    """seconds and calls of each operator, of its own; waits: by what made the host wait."""

    seconds: Counter[str]
    calls: Counter[str]
    waits: Counter[str]


def profile_predictions(sample: Callable[[], object], device: torch.device) -> Profile:
    """Of all predictions that a call makes inside a Meter. Raises RuntimeError where it makes none."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as profiled:
        sample()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    events = profiled.events()
    spans = [event.time_range for event in events if event.name == PREDICTION and _on_host(event)]
    if not spans:
        raise RuntimeError("profile_predictions: sample must make a prediction, got none")
    seconds, calls, waits = Counter(), Counter(), Counter()
    for event in events:
        begin = event.time_range.start
        if not _on_host(event) or not any(span.start <= begin <= span.end for span in spans):
            continue
        own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        if own and event.name not in (PREDICTION, NO_OPERATOR):
            seconds[event.name] += own / 1e6
            calls[event.name] += 1
        if event.name in WAITS[device.type]:
            waits[event.name] += 1
    return Profile(seconds, calls, waits)


def _on_host(event) -> bool:
    return event.device_type == torch.autograd.DeviceType.CPU
