"""Write the rows of the small world, in the shapes of the real files.

    python -m scripts.world.make_rows --output rows

The files: `kochatgpt_1_SFT.jsonl`, `kochatgpt_1_SFT_conversation.jsonl`, `kochatgpt_2_RM.jsonl`,
`kochatgpt_3_PPO.jsonl` and `orca_dpo_pairs.jsonl` as KoChatGPT and Intel have them (with the columns that
`stages.py` lists), `world.json` for `right`, and `statements.txt`, the facts as plain sentences for a base model.
The same seed gives the same bytes.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .answers import Answers
from .phrases import load_everyday, load_phrases
from .questions import all_questions
from .stages import Row, Sizes, Stages
from .table import as_json, load_world, statements


SEED = 42


def stages(seed: int = SEED, sizes: Sizes | None = None) -> Stages:
    """The rows of all stages, ready to be made."""
    world = load_world()
    answers = Answers(world, load_phrases(), random.Random(seed), as_json(world))
    return Stages(answers, all_questions(world, seed), load_everyday(), sizes or Sizes(), seed)


def json_array(rows: Sequence[Row]) -> str:
    """One JSON array, a row a line, without spaces: the package is held to 30 MB."""
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def json_lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def conversation_text(dialogues: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Dialogues as `kochatgpt_1_SFT_conversation.jsonl` has them, which is plain text."""
    blocks = []
    for turns in dialogues:
        lines = ["<<start conversation>>"]
        for said, answered in turns:
            lines += [f"<사람>: {said}", f"<챗봇>: {answered}"]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def files(made: Stages) -> dict[str, str]:
    """The text of every file, by its name. Some of KoChatGPT's begin with a byte order mark, and so do these."""
    world = made.answers.world
    facts = [sentence for fact in world.facts for sentence in statements(fact, world.relations[fact.relation])]
    return {
        "kochatgpt_1_SFT.jsonl": "\ufeff" + json_array(made.sft()),
        "kochatgpt_1_SFT_conversation.jsonl": conversation_text(made.dialogues()),
        "kochatgpt_2_RM.jsonl": "\ufeff" + json_array(made.rankings()),
        "kochatgpt_3_PPO.jsonl": json_array(made.prompts()),
        "orca_dpo_pairs.jsonl": json_lines(made.pairs()),
        "world.json": json.dumps(made.answers.table, ensure_ascii=False, separators=(",", ":")) + "\n",
        "statements.txt": "\n".join(facts) + "\n",
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the rows of the small world.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write the files to")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args(argv)
    made = stages(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, text in files(made).items():
        (arguments.output / name).write_text(text, encoding="utf-8", newline="\n")
        held_out = Counter(reason or "training" for reason in re.findall(r'"held_out": "(\w*)"', text))
        print(f"{name}: {len(text.encode()):,} bytes", dict(held_out) or "")


if __name__ == "__main__":
    main()
