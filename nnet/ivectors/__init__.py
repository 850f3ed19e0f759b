"""Gaussian mixtures, i-vector extractors, and i-vectors that follow speech as it comes in."""
