"""Devices: the CPU and GPUs, one object each, and what they compute."""
