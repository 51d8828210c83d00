"""What reward functions and reward models are given, and where a score is read."""

import asyncio

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
)
from trl import GRPOConfig, GRPOTrainer

from tests.tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from tests.tokenizers import kogpt2_like
from trl_kochat import load_tokenizer

from .test_trainer import PROMPTS, ROWS, TOKENIZER, folders, length_reward, logged, lora, trainer  # noqa: F401


# As in this package's ChatML: a line feed stands behind the token that ends a turn.
TAIL = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CONVERSATIONS = Dataset.from_list([{"prompt": [{"role": "user", "content": prompt}]} for prompt in PROMPTS])


def made_by(ppo, rows, size=4):
    return ppo.maker([rows[i] for i in range(8)], numbers=range(8), seed=[0], slice_size=size)


def read_by_reward_trainer(reward, tokenizer, prompt, completion, finished):
    """The score at the last token of the row as RewardTrainer renders it; of a cut one, of what was written."""
    text = tokenizer.apply_chat_template(prompt + completion, tokenize=False)
    if not finished:
        text = text[: text.rindex(completion[0]["content"]) + len(completion[0]["content"])]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return reward(torch.tensor([ids])).logits[0, 0].item()


@pytest.mark.parametrize("own_tokenizer", [False, True])
def test_a_conversation_is_read_where_the_reward_model_was_trained_to_look(tmp_path, own_tokenizer):
    tokenizer = tiny_tokenizer()
    assert tokenizer.chat_template == TAIL
    other = tiny_tokenizer(vocab_size=270) if own_tokenizer else tokenizer
    reward = tiny_reward_model(vocab_size=270 if own_tokenizer else 300)
    kwargs = {"reward_processing_classes": other} if own_tokenizer else {}
    ppo = trainer(tmp_path, reward, rows=CONVERSATIONS, **kwargs)
    made = made_by(ppo, CONVERSATIONS)
    assert len(set(made.episodes.finished)) == 2
    for i, finished in enumerate(made.episodes.finished):
        if not finished and not own_tokenizer:
            continue  # the text of cut ids need not be those ids again
        row = made.episodes.prompts[i], made.episodes.completions[i]
        if (
            finished
            and other.encode(row[1][0]["content"]) != made.episodes.completion_ids[i][:-1]
            and not own_tokenizer
        ):
            continue
        expected = read_by_reward_trainer(reward, other, *row, finished)
        assert made.scores[i].item() == pytest.approx(expected, abs=1e-4)


def test_an_adapter_on_the_base_is_read_there_too(folders, tmp_path):  # noqa: F811
    ppo = trainer(tmp_path, folders["reward"], model=folders["base"], rows=CONVERSATIONS)
    apart = trainer(tmp_path, folders["reward"], model=tiny_llama(hidden_size=64, eos_logit=5.0), rows=CONVERSATIONS)
    one, other = made_by(ppo, CONVERSATIONS), made_by(apart, CONVERSATIONS)
    assert torch.allclose(one.scores, other.scores, atol=1e-5)
    newline = TOKENIZER.encode("\n")
    for ids, read, finished in zip(
        one.episodes.completion_ids, one.episodes.read_ids, one.episodes.finished, strict=True
    ):
        assert read == (ids + newline if finished else ids)


def test_where_padding_is_eos_a_score_is_read_before_it_as_in_training(tmp_path):
    tokenizer, reward = tiny_tokenizer(pad=False), tiny_reward_model()
    reward.config.pad_token_id = tokenizer.pad_token_id
    ppo = trainer(tmp_path, reward, processing_class=tokenizer)
    made = made_by(ppo, ROWS)
    for i in made.episodes.finished, made.scores:
        assert len(i) == 8
    for prompt, ids, score in zip(
        made.episodes.prompt_ids, made.episodes.completion_ids, made.scores.tolist(), strict=True
    ):
        assert reward(torch.tensor([prompt + ids])).logits[0, 0].item() == pytest.approx(score, abs=1e-4)


def test_a_reward_model_that_reads_both_ways_is_scored_without_the_padding(tmp_path):
    torch.manual_seed(0)
    sizes = dict(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    reward = BertForSequenceClassification(BertConfig(num_labels=1, pad_token_id=1, initializer_range=0.3, **sizes))
    made = made_by(trainer(tmp_path, reward, value_model=tiny_reward_model()), ROWS, size=8)
    rows = [p + c for p, c in zip(made.episodes.prompt_ids, made.episodes.completion_ids, strict=True)]
    assert len({len(row) for row in rows}) > 1
    alone = [reward(torch.tensor([row])).logits[0, 0].item() for row in rows]
    assert made.scores.tolist() == pytest.approx(alone, abs=1e-4)


def test_a_reward_model_reads_with_the_tokenizer_that_was_saved_with_it(tmp_path):
    tiny_reward_model(vocab_size=270).save_pretrained(tmp_path / "reward")
    tiny_tokenizer(vocab_size=270).save_pretrained(tmp_path / "reward")
    (reward,) = trainer(tmp_path, str(tmp_path / "reward")).rewards
    assert reward.tokenizer.get_vocab() == tiny_tokenizer(vocab_size=270).get_vocab()


def test_a_tokenizer_that_was_saved_with_a_reward_model_is_repaired(tmp_path):
    rows = len(load_tokenizer(kogpt2_like(tmp_path / "reward")))
    config = GPT2Config(vocab_size=rows, n_embd=16, n_layer=1, n_head=2, num_labels=1)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "reward")
    (reward,) = trainer(tmp_path, str(tmp_path / "reward"), value_model=tiny_reward_model()).rewards
    assert reward.tokenizer.decode(reward.tokenizer("안녕하세요.")["input_ids"]).strip() == "안녕하세요."


def test_an_encoder_scores_with_its_own_tokenizer_that_has_no_end(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "가", "나"]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(tmp_path / "reward")
    sizes = {
        "vocab_size": 7,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    BertForSequenceClassification(BertConfig(num_labels=1, **sizes)).save_pretrained(tmp_path / "reward")
    ppo = trainer(tmp_path, str(tmp_path / "reward"))
    assert made_by(ppo, ROWS).scores.isfinite().all()


def test_answers_whose_template_writes_no_token_behind_them_are_read_as_they_are(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ eos_token }}\n{% endfor %}", "{% endfor %}")
    assert tokenizer.chat_template != TAIL
    episodes = made_by(trainer(tmp_path, processing_class=tokenizer, rows=CONVERSATIONS), CONVERSATIONS).episodes
    assert any(episodes.finished) and episodes.read_ids == episodes.completion_ids


SEEN = {}


def plain(prompts, completions, completion_ids, number, trainer_state, log_metric, log_extra, **kwargs):
    SEEN["step"], SEEN["gradients"] = trainer_state.global_step, torch.is_grad_enabled()
    log_metric("letters", sum(map(len, completions)) / len(completions))
    log_extra("number_of_row", number)
    return [float(len(ids)) for ids in completion_ids]


async def waiting(prompts, completions, **kwargs):
    await asyncio.sleep(0)
    return [0.5] * len(prompts)


def sometimes(prompts, completions, number, **kwargs):
    return [None if n % 2 else 1.0 for n in number]


FUNCTIONS = [plain, waiting, sometimes]


def test_the_same_functions_run_in_ppo_and_in_grpo(tmp_path):
    quiet = dict(report_to="none", use_cpu=True, disable_tqdm=True, logging_steps=1, max_steps=1, save_strategy="no")
    args = GRPOConfig(
        str(tmp_path / "grpo"),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        bf16=False,
        gradient_checkpointing=False,
        **quiet,
    )
    base = tmp_path / "base"
    tiny_llama(eos_logit=4.0).save_pretrained(base)
    grpo = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(base), FUNCTIONS, args, ROWS, processing_class=tiny_tokenizer()
    )
    grpo.train()
    ppo = trainer(tmp_path, FUNCTIONS, log_completions=True, eval_rows=ROWS, max_steps=1)
    ppo.train()
    for run in (grpo, ppo):
        assert logged(run, "letters")[0] > 0
        assert logged(run, "rewards/waiting/mean") == [0.5] and logged(run, "rewards/sometimes/mean") == [1.0]
    assert SEEN == {"step": 0, "gradients": False}  # a model in a function would keep its activations
    assert ppo.evaluate()["eval_letters"] > 0 and SEEN["step"] == 1
    assert [row["number_of_row"] for row in ppo.eval_completions] == list(range(len(ROWS)))


def test_async_functions_run_together(tmp_path):
    started = []

    def function(name):
        async def reward(prompts, **kwargs):
            started.append(name)
            while len(started) < 2:  # waits for the other
                await asyncio.sleep(0)
            return [1.0] * len(prompts)

        return reward

    ppo = trainer(tmp_path, [function("a"), function("b")])
    assert (made_by(ppo, ROWS).scores == 2.0).all()


def test_an_async_function_that_raises_is_named(tmp_path):
    async def broken(prompts, **kwargs):
        raise KeyError("answer")

    with pytest.raises(KeyError) as caught:
        trainer(tmp_path, [length_reward, broken]).train()
    assert any("'broken'" in note for note in caught.value.__notes__)


def test_a_notebooks_own_loop_is_not_in_the_way(tmp_path):
    async def cell():
        return made_by(trainer(tmp_path, waiting), ROWS).scores

    assert (asyncio.run(cell()) == 0.5).all()


def test_lora_of_stage_2_may_have_another_rank_than_the_policys(folders, tmp_path):  # noqa: F811
    ppo = trainer(tmp_path, folders["reward"], model=folders["base"], peft_config=lora(use_rslora=True))
    assert made_by(ppo, ROWS).scores.isfinite().all()
