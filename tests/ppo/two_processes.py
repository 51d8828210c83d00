"""A short PPO run, started by `accelerate launch` in test_processes.py; writes what it logged to the file given."""

import json
import sys
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig

from tests.tiny_lm import SENTENCES, tiny_llama, tiny_tokenizer
from trl_kochat.ppo import PPOConfig, PPOTrainer


def main(folder: str, per_device: str, value_trunk: str) -> None:
    rows = Dataset.from_list(
        [{"prompt": s[:n] + "\n", "number": i} for i, s in enumerate(SENTENCES) for n in (4, 7, 9)]
    )
    seen = []

    def reward(prompts, completions, completion_ids, **kwargs):
        seen.extend(zip(prompts, completion_ids, strict=True))
        return [sum(token < 150 for token in ids) / len(ids) for ids in completion_ids]

    args = PPOConfig(
        folder,
        per_device_train_batch_size=int(per_device),
        per_device_eval_batch_size=3,
        gradient_accumulation_steps=2,
        num_ppo_epochs=2,
        max_completion_length=8,
        max_steps=4,
        learning_rate=1e-2,
        logging_steps=1,
        value_trunk=value_trunk,
        save_strategy="steps",
        save_steps=1,
        report_to="none",
        use_cpu=True,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    trainer = PPOTrainer(
        tiny_llama(eos_logit=4.0),
        reward,
        args,
        rows,
        rows.select(range(7)),
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"),
    )
    trainer.train()
    in_training = len(seen)
    evaluation = trainer.evaluate()
    own = {"generated": in_training, "rollouts": seen[:in_training]}
    out = Path(folder) / f"process_{args.process_index}.json"
    out.write_text(json.dumps(own | {"history": trainer.state.log_history, "eval": evaluation}))

    # Again from the middle of a rollout.
    again = PPOTrainer(
        tiny_llama(eos_logit=4.0),
        reward,
        args,
        rows,
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"),
    )
    again.train(resume_from_checkpoint=f"{folder}/checkpoint-3")
    state, other = trainer.model.trainable_state(), again.model.trainable_state()
    same = all((state[name] == other[name]).all().item() for name in state)
    (Path(folder) / f"resumed_{args.process_index}.json").write_text(json.dumps(same))
    again.accelerator.end_training()  # else a process may abort at exit, with gloo's threads still running


if __name__ == "__main__":
    main(*sys.argv[1:])
