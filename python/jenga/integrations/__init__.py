"""Hosts beside ComfyUI, and engines for several GPUs: a file each, which imports its host when it is used."""
