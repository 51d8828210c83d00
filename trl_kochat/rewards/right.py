"""Answers that can be checked: whether the fact that was asked for is in them."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..measure.right import embedded_world
from ..measure.right import right as is_right
from .contract import Reward, answer_text


logger = logging.getLogger(__name__)


def right(world: Mapping[str, Any] | None = None) -> Reward:
    """1 for an answer that names the fact its row asks for and no other of its kind, else 0; rows that ask for none get
    `None`, and where the dataset has no column `fact` that is each row, with a warning.

    A reward that needs no model and cannot be talked into anything, as in reinforcement learning with verifiable rewards
    (Tulu 3, arXiv 2411.15124).

    Args:
        world (`dict`, *optional*): The table of facts, as [`trl_kochat.measure.right.right`] reads it; the embedded one
            if not given. The column `fact` has an id of the table in each row, or nothing.
    """
    told: set[str] = set()

    def reward(prompts: Any, completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> Any:
        table = embedded_world() if world is None else world
        if "fact" not in columns and not told:
            told.add("no column")
            logger.warning(
                "The reward right says nothing of these rows: they have no column 'fact' with the id of a fact. A recipe "
                "goes without it when --rewards names others, e.g. --rewards reward_model."
            )
        facts = columns.get("fact", [None] * len(completions))
        return [
            float(is_right(answer_text(completion), {"fact": fact}, table)) if fact in table["facts"] else None
            for completion, fact in zip(completions, facts, strict=True)
        ]

    reward.__name__ = "right"
    return reward
