"""Web pages about trainings, from what nnet.report.training_logs reads."""
