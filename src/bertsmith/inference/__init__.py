"""predict: answers through one Predictor, whatever the engine."""
