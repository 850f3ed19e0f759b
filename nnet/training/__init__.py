"""Training: the step, objectives, averaging, combination, priors, diagnostics."""
