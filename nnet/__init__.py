"""Deep acoustic models trained with natural gradient and parameter averaging, in Kaldi's formats."""

__version__ = "0.1.0"
