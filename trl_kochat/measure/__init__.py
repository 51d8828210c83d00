"""What a model says and scores: answers, scores, log-probabilities, and the measures of a run.

[`answers`], [`pairs`], [`scores`], [`policy`] and [`rewarded`] are what `RunReportCallback(evaluate=...)` takes:

```python
trainer = DPOTrainer(...)
trainer.add_callback(RunReportCallback(evaluate=measure.pairs(trainer, held_out)))
```
"""

from .evaluate import answers, pairs, policy, rewarded, scores
from .labelled import score_labelled_positions
from .rewarded import score


__all__ = ["answers", "pairs", "policy", "rewarded", "score", "score_labelled_positions", "scores"]
