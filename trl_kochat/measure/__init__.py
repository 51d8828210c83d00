"""What a model says and scores: answers, scores, log-probabilities, and the measures of a run."""
