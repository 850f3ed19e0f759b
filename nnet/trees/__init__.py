"""Building of decision trees: statistics in context, clusters of phones, questions."""
