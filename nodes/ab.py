"""Jenga A/B: the same noise sampled dense and with Jenga, both timed, and how far apart the results are."""

from comfy_api.v0_0_2 import io

from jenga.report.ab import DENSE, JENGA

from .host import private, status
from .host.ab_test import ABTest, SamplerSettings
from .host.latents import sampled
from .host.unpatch import is_patched


class JengaAB(io.ComfyNode):
    """In the place of a KSampler: one queue runs it without and with the Jenga patches of its model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        samplers, schedulers = private.sampler_names()
        return io.Schema(
            node_id="JengaAB",
            display_name="Jenga A/B",
            category="Jenga",
            description="Samples the same noise dense and with the Jenga patches of the model, one after the other, "
            "and says how much faster and how far apart they are. Takes the place of a KSampler.",
            search_aliases=["jenga benchmark", "ab test", "speed-up", "dense against sparse", "noise floor"],
            inputs=[
                io.Model.Input("model", tooltip="A model with Jenga or Jenga Attention on it."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True),
                io.Int.Input("steps", default=20, min=1, max=10000),
                io.Float.Input("cfg", default=8.0, min=0.0, max=100.0, step=0.1, round=0.01),
                io.Combo.Input("sampler_name", options=samplers),
                io.Combo.Input("scheduler", options=schedulers),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent_image"),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01),
                io.Int.Input(
                    "repeats",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="Runs of each kind, in the order dense, jenga, jenga, dense, … Seconds are their median.",
                ),
                io.Boolean.Input(
                    "noise_floor",
                    default=False,
                    advanced=True,
                    tooltip="One more dense run, with another attention function of ComfyUI: how far apart two exact "
                    "runs are. It may be much slower than the first.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="dense"),
                io.Latent.Output(display_name="jenga"),
                io.String.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        latent_image,
        denoise,
        repeats,
        noise_floor,
    ) -> io.NodeOutput:
        if not is_patched(model):
            raise ValueError(
                "Jenga A/B: model must carry a Jenga patch, got one without: put Jenga or Jenga Attention before this "
                "node, and switch it on"
            )
        settings = SamplerSettings(seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise)
        result = ABTest(model, settings, cls.hidden.unique_id).run(repeats, noise_floor)
        status.say(cls.hidden.unique_id, result.line())
        text = result.text()
        latents = (sampled(latent_image, result.samples[name]) for name in (DENSE, JENGA))
        return io.NodeOutput(*latents, text, ui={"jenga_ab": [result.summary()], "text": [text]})
