"""Graphs, lexicons and language models, decoding and scoring."""
