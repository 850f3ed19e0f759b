"""Launchers of jobs: on this machine and on clusters, with their locks, GPUs and signals."""
