"""Networks and acoustic models."""
