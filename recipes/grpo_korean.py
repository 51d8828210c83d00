"""GRPO (or RLOO) with rewards that know Korean, on the prompts of KoChatGPT stage 3, with 4-bit LoRA on one device.

    python recipes/grpo_korean.py                      # gpu preset where there is a CUDA device, else cpu
    python recipes/grpo_korean.py --dry_run            # say what would run
    python recipes/grpo_korean.py --rewards korean_script speech_level:반말 ends reward_model --reward_weights 1 2 1 0.2
    python recipes/grpo_korean.py --trainer rloo

The policy starts from the adapter of stage 1, which is also the reference. The rewards are those of docs/rewards.md, by
name; `reward_model` is the adapter of stage 2. The cpu preset needs no network: it takes stages 1 and 2 from runs/ where
you have run them, else adapters that are embedded like rows and model. Presets are in configs/grpo_korean/. On a GPU
with vLLM, `--use_vllm True` and its settings go to TRL as they are.
"""

from trl_kochat.startup import begin_command


if __name__ == "__main__":
    begin_command()

import trl

from trl_kochat import KoreanSamplesCallback, Run, measure
from trl_kochat.stages import GroupArguments, cut_prompts, find_rewards, find_sft_adapter, going_on_with, is_rloo


def main(argv: list[str] | None = None) -> None:
    config_class = trl.RLOOConfig if is_rloo(argv) else trl.GRPOConfig
    run = Run("grpo_korean", config_class, argv, extra_arguments=GroupArguments, adapters="LoRA of stage 1")
    sft_adapter, rewards = find_sft_adapter(run), find_rewards(run, as_functions=True)
    run.rows("kochatgpt_ppo", lambda rows: cut_prompts(rows, run.tokenizer, run.arguments.max_prompt_length))

    trainer_class = trl.RLOOTrainer if is_rloo(argv) else trl.GRPOTrainer
    trainer = trainer_class(**going_on_with(sft_adapter, run), reward_funcs=rewards)
    run.train(trainer, measure.rewarded(trainer), samples=KoreanSamplesCallback(score=measure.score(trainer)))


if __name__ == "__main__":
    Run.as_command(main)
