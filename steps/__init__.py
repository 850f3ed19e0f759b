"""Drivers of training, decoding and what they need, and modules that they share."""
