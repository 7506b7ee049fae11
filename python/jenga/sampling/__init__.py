"""Schedules and latents: presets, the arithmetic of stages, step reuse. Knows no attention and no host."""
