"""Walk-forward evaluation: the one loop, its units, the metrics and the scorecard. Knows nothing of where it runs."""
