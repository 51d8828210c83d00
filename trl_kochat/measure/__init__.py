"""What a model says and scores: answers, scores, log-probabilities, and the measures of a run.

[`answers`], [`pairs`], [`scores`] and [`policy`] are what `RunReportCallback(evaluate=...)` takes:

```python
trainer = DPOTrainer(...)
trainer.add_callback(RunReportCallback(evaluate=measure.pairs(trainer, held_out)))
```
"""

from .evaluate import answers, pairs, policy, scores


__all__ = ["answers", "pairs", "policy", "scores"]
