"""ngtrain: training of deep acoustic models with natural gradient and parameter averaging."""

__version__ = "0.1.0"
