"""Rewards that know Korean, by TRL's contract: for GRPOTrainer, RLOOTrainer and [`PPOTrainer`] alike.

Each is a factory with options; docs/rewards.md says what they mean and how a policy cheats them.

```python
from trl_kochat.rewards import ends, gate, korean_script, speech_level

trainer = GRPOTrainer(..., reward_funcs=[korean_script(), gate(ends(tokenizer), speech_level("해요체"))])
```
"""

from .combine import combine, gate
from .contract import Reward
from .ends import ends
from .fluency import fluency
from .format import format
from .keyword import keyword, no_keyword
from .korean_script import korean_script
from .length import length
from .named import get_reward, reward_names
from .no_repetition import no_repetition
from .particles import particles
from .relevance import relevance
from .reward_model import reward_model
from .right import right
from .spacing import spacing
from .speech_level import speech_level


__all__ = [
    "Reward",
    "combine",
    "ends",
    "fluency",
    "format",
    "gate",
    "get_reward",
    "keyword",
    "korean_script",
    "length",
    "no_keyword",
    "no_repetition",
    "particles",
    "relevance",
    "reward_model",
    "reward_names",
    "right",
    "spacing",
    "speech_level",
]
