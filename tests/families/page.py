"""docs/models.md, written from what the matrix gave; `python -m tests.families.page` runs it whole, some four minutes."""

import re
from pathlib import Path

from trl import get_training_chat_template

from tests.families.matrix import STAGES, run_family
from tests.families.memory import PUBLISHED, memory_row
from tests.families.tiny import FAMILIES, tokenizer_of
from trl_kochat.errors import InputError
from trl_kochat.tokenizer.training import training_template


PAGE = Path(__file__).parents[2] / "docs" / "models.md"
MEMORY_HEAD = (
    "| family | model | parameters | 4-bit weights and LoRA | a full batch beside them |\n|---|---|---|---|---|"
)


def stage_row(name: str, results: dict[str, str]) -> str:
    # Sentences name the folder of the moment.
    said = (re.sub(r"/\S*/", "", results[stage]).replace("|", "\\|") for stage in STAGES)
    return f"| {name} | `{FAMILIES[name].model_type}` | {' | '.join(said)} |"


def template_row(name: str) -> str:
    family, tokenizer = FAMILIES[name], tokenizer_of(FAMILIES[name])
    compared = family.compared
    if not family.template:
        training, compared = "none of its own: `ko_instruct`; `koalpaca` and `kullm` by name", "their READMEs"
    else:
        try:
            get_training_chat_template(tokenizer)
            training = "TRL's"
        except ValueError:
            training = _ours(tokenizer)
    end = f"`{(family.end or family.eos).strip()}`".replace("|", "\\|")
    return f"| {name} | {end}{'' if family.end else ' (ours: it has none)'} | {training} | {compared} |"


def _ours(tokenizer) -> str:
    try:
        training_template(tokenizer)
    except InputError as error:
        return str(error).replace("|", "\\|")
    return "ours, of what its own renders"


def page(stage_rows: list[str]) -> str:
    stages = "\n".join(stage_rows)
    templates = "\n".join(map(template_row, FAMILIES))
    memory = "\n".join(map(memory_row, PUBLISHED))
    return f"""# Model families

Written by `python -m tests.families.page`, and held to that by the tests (the whole of it by a slow one). Other decoders of transformers take the same way.

## Stages

A tiny model with random weights of each family's own architecture, with its special tokens and its template, went through
every recipe for two steps, 4-bit with LoRA as in the cpu preset: `yes`, or the sentence that one gets. PPO was also gone on
with from a checkpoint and ended with the same weights; merged models were loaded again, and gave the same scores.

| family | architecture | {" | ".join(STAGES)} |
|{"---|" * (len(STAGES) + 2)}
{stages}

What to know of some:

- **EXAONE 3.5** is a class of transformers from 5.24 on; before, its code comes with the model (`--trust_remote_code`).
- **Kanana 1.5 2.1B**: transformers 5.23 and 5.24 refuse its config.json (24 heads on a width of 1,792). As the same model,
  bit for bit, it loads from a copy of its folder whose config.json says `"model_type": "mistral"`,
  `"architectures": ["MistralForCausalLM"]` and `"sliding_window": null`.
- **Solar Open** keeps its experts in one tensor, which 4-bit and LoRA with dropout leave alone: adapters are on the
  attention only, and its 100B parameters stay at 16 bits, some 200 GB.
- **Polyglot-Ko**: padding is EOS, as the vocabulary has nothing else to pad with, so a reward model reads right before the
  end token (the doctor says so).
- **Mi:dm 2** writes a system text of its own before every prompt: give PPO a `--max_prompt_length` with room for it.

## Templates

A training template of ours renders byte for byte as the model's own one and marks the answers and their end, for
`assistant_only_loss`. It is made of what the tokenizer's template renders, so a fine-tuned copy gets its own. Where TRL
ships one for the very template it is TRL's, which may render turns alike that the own one does not (Qwen 3's empty
reasoning stands before every answer). Where the
last column says *a published description*, no file of the model was at hand: the shape is from its card or a paper, and
the check against the model's real file happens on your machine, each time one is made.

| family | an answer ends in | training template | the tests' template was compared with |
|---|---|---|---|
{templates}

## Memory

Of the `dpo_orca` gpu preset, **computed, not yet measured**, from the shapes in the models' config.json: 4.127 bits for each
weight of a linear layer, 16 for embeddings and norms, LoRA of rank 16 with gradients and AdamW's moments in float32. The
batch is one as long as the preset allows (8 answers of 1,536 tokens, which Orca's rows seldom reach), most of it the output
rows of a large vocabulary: `--per_device_train_batch_size 1 --gradient_accumulation_steps 16` takes a quarter of it.

{MEMORY_HEAD}
{memory}
"""


if __name__ == "__main__":
    PAGE.write_text(page([stage_row(name, run_family(name)) for name in FAMILIES]), encoding="utf-8")
