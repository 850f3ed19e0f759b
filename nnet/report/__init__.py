"""Web pages about trainings, from what nnet.training_logs reads."""
