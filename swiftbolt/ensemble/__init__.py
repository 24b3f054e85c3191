"""The ensemble: weights of the members, calibration of the probability of a rise, confidence and agreement."""
