"""Kaldi's files: streams, tokens, matrices, tables. Import the module you need."""
