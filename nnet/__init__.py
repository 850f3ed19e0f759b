"""Training of deep acoustic models by natural gradient and averaging, in Kaldi's formats."""

__version__ = "0.2.0"
