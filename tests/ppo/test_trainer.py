import json
import math
import statistics
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    OPTConfig,
    OPTForCausalLM,
    TrainerCallback,
    XGLMConfig,
    XGLMForCausalLM,
)
from trl import TrlParser

from tests.tiny_lm import SENTENCES, TEMPLATE, tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat.measure.logps import pack_rows
from trl_kochat.ppo import PPOConfig, PPOTrainer


TOKENIZER = tiny_tokenizer()
PROMPTS = [sentence[:length] + "\n" for sentence in SENTENCES for length in (4, 6, 8, 11)]
ROWS = Dataset.from_list([{"prompt": prompt, "number": i} for i, prompt in enumerate(PROMPTS)])


def lora(**kwargs):
    return LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, target_modules="all-linear", **kwargs)


def config(folder, **kwargs):
    defaults = dict(
        per_device_train_batch_size=4,
        steps_per_generation=2,
        num_ppo_epochs=2,
        max_completion_length=8,
        max_steps=4,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        gradient_checkpointing=False,
    )
    return PPOConfig(str(folder), **(defaults | kwargs))


def length_reward(prompts, completions, completion_ids, **kwargs):
    return [float(len(ids)) for ids in completion_ids]


def trainer(folder, reward_funcs=length_reward, *, model=None, rows=ROWS, eval_rows=None, args=None, **kwargs):
    own = {"processing_class", "value_model", "ref_model", "peft_config", "quantization_config", "callbacks"}
    own.add("reward_processing_classes")
    passed = {k: kwargs.pop(k) for k in own & kwargs.keys()}
    return PPOTrainer(
        model if model is not None else tiny_llama(eos_logit=4.0),
        reward_funcs,
        args or config(folder, **kwargs),
        rows,
        eval_rows,
        **{"processing_class": TOKENIZER, "peft_config": lora()} | passed,
    )


# What no two runs have in common.
TIMES = tuple(f"ppo/time/{part}" for part in ("generation", "scoring", "update"))


def logged(ppo, name):
    return [entry[name] for entry in ppo.state.log_history if name in entry]


def updates(ppo):
    entries = [entry for entry in ppo.state.log_history if "loss" in entry]
    return [{name: value for name, value in entry.items() if name not in TIMES} for entry in entries]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What stages 1 and 2 leave: a base with its tokenizer, an SFT adapter and a reward adapter on it."""
    root = tmp_path_factory.mktemp("stages")
    base = str(root / "base")
    tiny_llama(hidden_size=64, eos_logit=5.0).save_pretrained(base)
    TOKENIZER.save_pretrained(base)
    torch.manual_seed(1)
    for name, kind, task in (
        ("sft", AutoModelForCausalLM, "CAUSAL_LM"),
        ("reward", AutoModelForSequenceClassification, "SEQ_CLS"),
    ):
        kwargs = {"num_labels": 1} if name == "reward" else {}
        model = kind.from_pretrained(base, **kwargs)
        model = get_peft_model(model, LoraConfig(task_type=task, r=4, target_modules="all-linear"))
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.data.normal_(0, 0.1)
        model.save_pretrained(root / name)
    return {"base": base, "sft": str(root / "sft"), "reward": str(root / "reward")}


# Right


@pytest.mark.parametrize("kind", ["base", "sft", "full", "trunk", "4bit"])
def test_before_the_first_update_ratio_is_1_and_kl_is_0_exactly(folders, tmp_path, kind):
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    kwargs = {
        "base": dict(model=folders["base"], reward_funcs=folders["reward"]),
        "sft": dict(model=folders["sft"], reward_funcs=folders["reward"], peft_config=None),
        "full": dict(model=folders["base"], peft_config=None),
        "trunk": dict(model=folders["base"], value_trunk="policy"),
        "4bit": dict(model=folders["base"], reward_funcs=folders["reward"], quantization_config=quantization),
    }[kind]
    ppo = trainer(tmp_path, **kwargs)
    ppo.train()
    first = updates(ppo)[0]
    assert first["ppo/ratio"] == 1.0 and first["ppo/approx_kl"] == 0.0 and first["kl"] == 0.0
    assert first["ppo/clipfrac"] == 0.0
    later = updates(ppo)[1:]
    assert all(entry["ppo/approx_kl"] > 0 for entry in later)
    # Advantages are standardized over the batch, so with ratio 1 the policy loss of all its slices averages 0.
    whole = trainer(tmp_path, gradient_accumulation_steps=2, **kwargs)
    whole.train()
    assert updates(whole)[0]["ppo/policy_loss"] == pytest.approx(0.0, abs=1e-6)


def test_the_critic_of_stage_2_leaves_something_to_learn(folders, tmp_path):
    ppo = trainer(tmp_path, folders["reward"], model=folders["sft"], peft_config=None)
    rows = [ROWS[i] for i in range(8)]
    made = ppo.maker(rows, numbers=range(8), seed=[0], slice_size=4)
    from trl_kochat.ppo.objective import advantages_and_returns, token_rewards

    rewards = token_rewards(made.scores, made.kl, made.mask, kl_coef=0.0)
    advantages, _ = advantages_and_returns(rewards, made.values, made.mask, gamma=1.0, lam=0.95)
    assert advantages[made.mask].abs().mean() > 1e-2


def test_the_reward_adapter_sees_the_very_ids_of_the_rollout(folders, tmp_path):
    ppo = trainer(tmp_path, folders["reward"], model=folders["base"])
    rows = [ROWS[i] for i in range(6)]
    made = ppo.maker(rows, numbers=range(6), seed=[0], slice_size=6)
    assert [e == 0 for ids in made.episodes.completion_ids for e in ids[-1:]] == made.episodes.finished
    from peft import AutoPeftModelForSequenceClassification

    alone = AutoPeftModelForSequenceClassification.from_pretrained(folders["reward"], num_labels=1)
    for prompt, ids, score in zip(made.episodes.prompt_ids, made.episodes.completion_ids, made.scores, strict=True):
        # Without padding, the model's own pooling takes the last token.
        row = torch.tensor([prompt + ids])
        hidden = alone.get_base_model().base_model(row).last_hidden_state[0, -1]
        assert alone.get_base_model().score(hidden).item() == pytest.approx(score.item(), abs=1e-5)


def test_pad_equal_to_eos_gives_the_same_run(folders, tmp_path):
    runs = []
    for pad in (True, False):
        tokenizer = tiny_tokenizer(pad=pad)
        ppo = trainer(tmp_path, model=folders["base"], processing_class=tokenizer, max_steps=6)
        ppo.train()
        runs.append([{k: v for k, v in e.items() if "runtime" not in k} for e in updates(ppo)])
    assert any(e.get("completions/clipped_ratio", 1) < 1 for e in runs[0])  # some rows do end
    assert runs[0] == runs[1]


def test_the_slice_size_changes_nothing_but_rounding(folders, tmp_path):
    # Other slices, so other padding: the whole batch makes one optimizer step in both.
    runs = []
    for size, steps in ((8, 1), (2, 4)):
        kwargs = dict(per_device_train_batch_size=size, gradient_accumulation_steps=steps, steps_per_generation=steps)
        ppo = trainer(tmp_path, folders["reward"], model=folders["base"], **kwargs)
        ppo.train()
        runs.append(updates(ppo))
    for one, other in zip(*runs, strict=True):
        for name in ("loss", "grad_norm", "ppo/value_loss", "ppo/approx_kl", "ppo/clipfrac"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), name


def test_conversations_are_rendered_and_go_to_functions_as_conversations(tmp_path):
    seen = []

    def reward(prompts, completions, completion_ids, number, **kwargs):
        seen.extend(zip(prompts, completions, number, strict=True))
        return [1.0] * len(prompts)

    rows = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": p}], "number": i} for i, p in enumerate(PROMPTS)]
    )
    ppo = trainer(tmp_path, reward, rows=rows, max_steps=1)
    ppo.train()
    assert len(seen) == 8
    for prompt, completion, number in seen:
        assert prompt == [{"role": "user", "content": PROMPTS[number]}]
        assert [message["role"] for message in completion] == ["assistant"]
    ids = ppo.maker.prompt_ids([seen[0][0]])[0]
    assert TOKENIZER.decode(ids) == f"<|user|>\n{PROMPTS[seen[0][2]]}</s>\n<|assistant|>\n"
    assert TEMPLATE  # the tokenizer's


def test_missing_rewards_leave_the_row_out_of_the_loss_and_are_counted(tmp_path):
    def every_other(prompts, completions, completion_ids, number, **kwargs):
        return [None if n % 2 else float(len(ids)) for n, ids in zip(number, completion_ids, strict=True)]

    ppo = trainer(tmp_path, every_other, max_steps=1, steps_per_generation=1, per_device_train_batch_size=8)
    ppo.train()
    numbers = [row["number"] for row in next(iter(ppo.get_train_dataloader()))]
    assert updates(ppo)[0]["ppo/missing_rewards"] == sum(n % 2 for n in numbers) > 0

    # What is left out has no say: a wild reward there, or none, makes the same step.
    rows = [ROWS[n] for n in numbers]
    made = ppo.maker(rows, numbers=range(8), seed=[0, 42, 0], slice_size=8)
    wild = made._replace(scores=torch.where(made.kept, made.scores, 1e9))
    rollout, other = (ppo.maker.rollout(m, kl_coef=0.05)[0] for m in (made, wild))
    mask = made.mask & made.kept[:, None]
    assert torch.equal(rollout.advantages, other.advantages)
    assert (rollout.advantages[~mask] == 0).all()
    assert rollout.advantages[mask].mean().abs() < 1e-5
    assert (rollout.advantages[mask].std(unbiased=False) - 1).abs() < 1e-3
    batch = rollout.batch(range(8), pad_token_id=1, device="cpu")
    assert torch.equal(batch["loss_mask"], mask)


def test_a_rollout_without_any_reward_moves_nothing(tmp_path):
    ppo = trainer(tmp_path, lambda prompts, **kwargs: [None] * len(prompts), max_steps=2)
    before = ppo.model.trainable_state()
    ppo.train()
    after = ppo.model.trainable_state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert updates(ppo)[0]["ppo/missing_rewards"] == 8 and "reward" not in updates(ppo)[0]


def test_rewards_are_weighted_clipped_and_named(tmp_path):
    def one(prompts, **kwargs):
        return [1.0] * len(prompts)

    def sometimes(prompts, completions, completion_ids, number, **kwargs):
        return [None if n % 2 else 3.0 for n in number]

    ppo = trainer(tmp_path, [one, sometimes], reward_weights=[2.0, 0.5], reward_clip_range=[0.0, 3.0], max_steps=1)
    ppo.train()
    first = updates(ppo)[0]
    assert first["rewards/one/mean"] == 1.0 and first["rewards/sometimes/mean"] == 3.0
    assert 2.0 < first["reward"] < 3.0
    made = ppo.maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=4)
    assert made.scores.tolist() == [3.0, 2.0] * 2  # 3.5 clipped to 3 where both spoke, 2 where one did
    assert first["ppo/missing_rewards"] == 0


def test_a_completion_cut_by_length_pays_the_penalty(tmp_path):
    ppo = trainer(tmp_path, missing_eos_penalty=5.0)
    made = ppo.maker([ROWS[i] for i in range(8)], numbers=range(8), seed=[0], slice_size=4)
    cut = [not finished for finished in made.episodes.finished]
    assert any(cut) and not all(cut)
    with_penalty, _ = ppo.maker.rollout(made, kl_coef=0.0)
    ppo.args.missing_eos_penalty = None
    without, _ = ppo.maker.rollout(made, kl_coef=0.0)
    last = made.mask.sum(1) - 1
    difference = (without.returns - with_penalty.returns)[range(8), last]
    assert difference.tolist() == pytest.approx([5.0 if c else 0.0 for c in cut], abs=1e-5)


def test_a_reward_model_with_another_tokenizer_reads_text(tmp_path):
    other = tiny_tokenizer(vocab_size=270)  # fewer merges: the same text in other ids
    reward = tiny_reward_model(vocab_size=270)
    ppo = trainer(tmp_path, reward, reward_processing_classes=other, max_steps=1)
    made = ppo.maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=2)
    for prompt, text, finished, score in zip(
        made.episodes.prompts, made.episodes.completions, made.episodes.finished, made.scores, strict=True
    ):
        ids = other(prompt + text + ("</s>" if finished else ""))["input_ids"]
        expected = reward.score(reward.model(torch.tensor([ids])).last_hidden_state[0, -1])
        assert expected.item() == pytest.approx(score.item(), abs=1e-4)
    ppo.train()


def test_a_reward_model_with_the_policys_tokenizer_is_scored_on_ids(tmp_path):
    reward = tiny_reward_model()
    ppo = trainer(tmp_path, reward)
    assert ppo.rewards[0].tokenizer is None
    made = ppo.maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=4)
    for prompt, ids, score in zip(
        made.episodes.prompt_ids, made.episodes.completion_ids, made.scores.tolist(), strict=True
    ):
        assert reward(torch.tensor([prompt + ids])).logits[0, 0].item() == pytest.approx(score, abs=1e-4)


def test_scored_answers_have_the_columns_of_the_dataset_and_no_values(tmp_path):
    given = []
    rows = ROWS.add_column("wish", list(range(len(ROWS))))

    def reward(prompts, wish, **kwargs):
        given.append((prompts, wish))
        return [1.0] * len(prompts)

    ppo = trainer(tmp_path, reward, rows=rows)
    assert ppo.score_answers(PROMPTS[:2], ["a", "b"]) == [1.0, 1.0]
    assert given == [([[{"role": "user", "content": prompt}] for prompt in PROMPTS[:2]], [None, None])]


@pytest.mark.parametrize("value_trunk", ["adapter", "policy"])
@pytest.mark.parametrize("slices", [1, 2])  # with one the update takes the rollout's own passes
def test_bf16_and_gradient_checkpointing_keep_the_first_ratio_and_the_losses(folders, tmp_path, value_trunk, slices):
    runs = []
    for checkpointing in (False, True):
        kwargs = dict(bf16=True, gradient_checkpointing=checkpointing, steps_per_generation=slices)
        ppo = trainer(tmp_path, folders["reward"], model=folders["base"], value_trunk=value_trunk, **kwargs)
        ppo.train()
        assert ppo.model.policy.get_base_model().is_activation_checkpointing == checkpointing
        runs.append(updates(ppo))
    first = runs[0][0]
    assert first["ppo/ratio"] == 1.0 and first["ppo/approx_kl"] == 0.0 and first["kl"] == 0.0
    assert runs[0] == runs[1]


def dtypes_read(modules):
    """Fills while the modules run."""
    read = set()
    for module in modules:
        module.register_forward_pre_hook(lambda _, given: read.add(given[0].dtype))
    return read


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("bits", [4, 16])
def test_adapters_read_their_input_in_bf16_and_learn_the_same(folders, tmp_path, monkeypatch, bits, checkpointing):
    """PEFT copies it to float32 first, only for autocast to round it again."""
    load = dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    runs = []
    for uncast in (False, True):
        if not uncast:
            monkeypatch.setattr(
                "trl_kochat.ppo.experience.disable_input_dtype_casting", lambda *_, **__: nullcontext()
            )
        kwargs = dict(bf16=True, gradient_checkpointing=checkpointing, model_init_kwargs={"dtype": "bfloat16"})
        quantized = dict(quantization_config=BitsAndBytesConfig(**load)) if bits == 4 else {}
        ppo = trainer(tmp_path, folders["reward"], model=folders["base"], **kwargs, **quantized)
        adapters = [module for name, module in ppo.model.named_modules() if "lora_A." in name]
        read = dtypes_read(adapters)
        ppo.train()
        assert read == {torch.bfloat16 if uncast else torch.float32}
        runs.append(updates(ppo))
        monkeypatch.undo()
    assert runs[0] == runs[1]


def test_output_layers_read_their_input_in_one_block(folders, tmp_path):
    """Else a CPU copies the frozen weights for each row: in bfloat16 a pass of the output layer took 80 times as long."""
    ppo = trainer(tmp_path, length_reward, model=folders["base"], ref_model=folders["base"])
    whole = []
    for model in (ppo.model.policy, ppo.ref_model):
        model.get_output_embeddings().register_forward_pre_hook(
            lambda _, given: whole.append(given[0].is_contiguous())
        )
    ppo.train()
    assert whole and all(whole)


@pytest.mark.parametrize("conversation", [False, True])
def test_answers_are_scored_as_those_of_a_rollout(folders, tmp_path, conversation):
    rows = ROWS
    if conversation:
        rows = Dataset.from_list([{"prompt": [{"role": "user", "content": p}]} for p in PROMPTS])
    tokenizer = tiny_tokenizer()
    if not conversation:
        tokenizer.chat_template = None  # else a string is a user's turn
    rewards, kwargs = [folders["reward"], length_reward], dict(processing_class=tokenizer, reward_weights=[1, 0.5])
    ppo = trainer(tmp_path, rewards, model=folders["base"], rows=rows, **kwargs)
    prompts, answer = rows["prompt"][:2], "네, 한우입니다."
    eos = [TOKENIZER.eos_token_id]
    ids = TOKENIZER(answer)["input_ids"] + eos
    tail = TOKENIZER.encode("\n") if conversation else []  # what the template writes behind EOS
    packed = pack_rows(ppo.maker.prompt_ids(prompts), [ids + tail, eos + tail], pad_token_id=1)
    ends = [length - 1 for length in packed.attention_mask.sum(1).tolist()]
    expected = ppo.model.adapter_rewards("reward", packed, ends) + 0.5 * torch.tensor([len(ids), 1])
    assert ppo.score_answers(prompts, [answer, ""]) == pytest.approx(expected.tolist(), abs=1e-5)
    if conversation:
        assert ppo.score_answers(PROMPTS[:2], [answer, ""]) == pytest.approx(expected.tolist(), abs=1e-5)


def test_answers_that_no_reward_speaks_of_have_no_score(tmp_path):
    ppo = trainer(tmp_path, lambda prompts, **kwargs: [None, 1.0])
    assert ppo.score_answers(PROMPTS[:2], ["a", "b"]) == [None, 1.0]


@pytest.mark.parametrize("value_trunk", ["adapter", "policy"])
def test_the_first_update_may_use_the_passes_of_the_rollout(folders, tmp_path, value_trunk):
    # Only a rollout of one slice does: with dropout said to be in play (there is none), the pass is made anew.
    runs = []
    for reuse in (True, False):
        kwargs = dict(steps_per_generation=1, per_device_train_batch_size=8, disable_dropout=reuse)
        ppo = trainer(tmp_path, folders["reward"], model=folders["base"], value_trunk=value_trunk, **kwargs)
        passes = []
        ppo.model.register_forward_hook(lambda *args, passes=passes: passes.append(1))
        ppo.train()
        runs.append((updates(ppo), ppo.model.trainable_state(), len(passes)))
    (ours, state, few), (theirs, other, many) = runs
    # On each of two rollouts one call less, or two where the value has a pass of its own.
    assert few == many - (4 if value_trunk == "adapter" else 2)
    assert ours == theirs
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_each_log_says_where_the_time_went(tmp_path):
    ppo = trainer(tmp_path)  # one rollout, logged at each of its four steps
    start = time.perf_counter()
    ppo.train()
    seconds = time.perf_counter() - start
    assert all(min(logged(ppo, name)) > 0 for name in TIMES)
    assert sum(statistics.mean(logged(ppo, name)) for name in TIMES) < seconds


# Learns


def even_reward(prompts, completions, completion_ids, **kwargs):
    """Share of tokens from the lower half of the vocabulary: best is 1, chance a half."""
    return [sum(token < 150 for token in ids) / len(ids) for ids in completion_ids]


def learn(folder, *, steps=32, **kwargs):
    defaults = dict(
        per_device_train_batch_size=16,
        steps_per_generation=1,
        num_ppo_epochs=4,
        max_steps=steps,
        learning_rate=1e-2,
        max_completion_length=8,
        lr_scheduler_type="constant",
    )
    rows = Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS] * 2)
    ppo = trainer(folder, even_reward, rows=rows, eval_rows=ROWS, **(defaults | kwargs))
    before = ppo.evaluate()
    ppo.train()
    return before, ppo.evaluate(), ppo


@pytest.mark.parametrize(
    "kwargs", [dict(), dict(value_trunk="policy"), dict(peft_config=None, learning_rate=3e-3)], ids=str
)
def test_a_reward_rises_to_near_its_best(tmp_path, kwargs):
    before, after, _ = learn(tmp_path, kl_coef=0.0, steps=96, **kwargs)
    assert before["eval_reward"] < 0.7
    assert after["eval_reward"] > 0.95
    assert "eval_kl" not in after  # nobody asked for the reference


@pytest.mark.long
def test_kl_holds_the_policy_near_its_reference(tmp_path):
    # At ten times the rate the noise of 16 samples alone moves so small a model by some nats, whatever the coefficient.
    def kl(kl_coef):
        return learn(tmp_path, kl_coef=kl_coef, learning_rate=1e-3, steps=64)[1]["eval_kl"]

    free = kl(1e-6)
    assert 0 < kl(0.1) < 0.6 * free
    assert abs(kl(1.0)) < 0.3 * free
    assert abs(kl(100.0)) < 0.15 * free


def test_a_kl_target_moves_the_coefficient(tmp_path):
    _, _, ppo = learn(tmp_path, kl_coef=0.01, kl_target=0.5, kl_horizon=100, steps=16)
    coefs, kls = logged(ppo, "ppo/kl_coef"), logged(ppo, "kl")
    for i, kl in enumerate(kls[:-1]):
        assert coefs[i + 1] > coefs[i] if kl > 0.5 else coefs[i + 1] < coefs[i]


# Is the model it says


@pytest.mark.parametrize("own_reference", [False, True])
def test_the_reference_is_read_at_the_temperature_of_sampling(folders, tmp_path, own_reference):
    kwargs = dict(model=folders["base"], temperature=0.7)
    if own_reference:
        kwargs |= dict(ref_model=folders["base"])
    ppo = trainer(tmp_path, **kwargs)
    made = ppo.maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=4)
    assert made.kl.abs().max() == 0


def opt_and_xglm():
    options = dict(
        vocab_size=300, max_position_embeddings=256, dropout=0.3, attention_dropout=0.3, activation_dropout=0.3
    )
    torch.manual_seed(0)
    opt = OPTConfig(hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2, layerdrop=0.3, **options)
    xglm = XGLMConfig(d_model=32, ffn_dim=64, num_layers=2, attention_heads=2, layerdrop=0.3, **options)
    llama = tiny_llama(attention_dropout=0.3)
    return [OPTForCausalLM(opt), XGLMForCausalLM(xglm), llama]


@pytest.mark.parametrize("number", [0, 1, 2], ids=["opt", "xglm", "llama"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_no_kind_of_dropout_is_left(tmp_path, number, dropout):
    # Two slices: the update has passes of its own, in training mode.
    model = opt_and_xglm()[number]
    ppo = trainer(tmp_path, model=model, peft_config=lora(lora_dropout=dropout), value_trunk="policy", max_steps=1)
    ppo.train()
    assert updates(ppo)[0]["ppo/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert updates(ppo)[0]["kl"] == pytest.approx(0.0, abs=1e-4)


def test_a_prompt_does_not_end_in_the_eos_that_its_tokenizer_appends(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 0)]
    )
    assert tokenizer(PROMPTS[0])["input_ids"][-1] == 0
    ppo = trainer(tmp_path, processing_class=tokenizer)
    assert ppo.maker.prompt_ids(PROMPTS[:1]) == [tokenizer(PROMPTS[0])["input_ids"][:-1]]


def test_bf16_is_on_where_the_card_has_it_as_in_trls_configs(tmp_path, monkeypatch):
    def made(**kwargs):
        return PPOConfig(str(tmp_path), report_to="none", **kwargs)

    assert made().bf16 is False and made(use_cpu=True).bf16 is False
    for module in ("trl_kochat.ppo.config", "transformers.training_args"):
        monkeypatch.setattr(f"{module}.is_torch_bf16_gpu_available", lambda: True)
    assert made().bf16 is True
    assert made(bf16=False).bf16 is False and made(use_cpu=True).bf16 is False
    assert made().gradient_checkpointing is True


# Goes on where it stopped


def full_state(ppo):
    state = {n: p.detach().clone() for n, p in ppo.model.named_parameters()}
    for i, slots in enumerate(ppo.optimizer.state_dict()["state"].values()):
        state |= {f"optimizer.{i}.{name}": torch.as_tensor(slot) for name, slot in slots.items()}
    return state


@pytest.mark.parametrize("kind", ["adapter", "policy", "full", "full-policy"])
@pytest.mark.parametrize("stop", [2, 3], ids=["between rollouts", "in the middle of a rollout"])
def test_resume_is_exact(tmp_path, kind, stop):
    # Two optimizer steps on each rollout; three rollouts of 6 prompts in an epoch of 20.
    def make(folder, **kwargs):
        return trainer(
            tmp_path / folder,
            per_device_train_batch_size=3,
            steps_per_generation=2,
            gradient_accumulation_steps=2,
            max_steps=8,
            num_train_epochs=3,
            save_strategy="steps",
            save_steps=1,
            kl_target=0.5,
            kl_horizon=50,
            value_trunk="policy" if "policy" in kind else "adapter",
            peft_config=None if "full" in kind else lora(),
            lr_scheduler_type="linear",
            **kwargs,
        )

    whole = make("whole")
    whole.train()
    checkpoint = tmp_path / "whole" / f"checkpoint-{stop}"
    assert (checkpoint / "rollout_0.safetensors").exists() == (stop == 3)
    resumed = make("resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))

    expected, got = full_state(whole), full_state(resumed)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert whole.lr_scheduler.state_dict() == resumed.lr_scheduler.state_dict()
    assert whole.progress.kl_coef == resumed.progress.kl_coef
    drop = ("epoch", "step")
    histories = [[{k: v for k, v in e.items() if k not in drop} for e in updates(ppo)] for ppo in (whole, resumed)]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 8


def test_resume_reaches_over_epochs(tmp_path):
    # 20 prompts make two rollouts of 8; the fifth step begins the second epoch.
    def make(folder):
        return trainer(tmp_path / folder, num_ppo_epochs=1, max_steps=8, save_strategy="steps", save_steps=1)

    whole = make("whole")
    whole.train()
    for stop in (4, 5):
        resumed = make("resumed")
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
        expected, got = full_state(whole), full_state(resumed)
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_metrics_that_were_not_logged_yet_are_in_the_checkpoint(tmp_path):
    def make(folder):
        return trainer(tmp_path / folder, max_steps=6, logging_steps=3, save_strategy="steps", save_steps=2)

    whole, resumed = make("whole"), make("resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name in ("reward", "kl", "ppo/value_loss"):
        assert logged(whole, name) == logged(resumed, name)


def test_a_checkpoint_of_other_batches_prompts_or_trainers_is_refused(tmp_path):
    ppo = trainer(tmp_path / "a", max_steps=3, save_strategy="steps", save_steps=3)
    ppo.train()
    checkpoint = tmp_path / "a" / "checkpoint-3"
    reversed_rows = Dataset.from_list([{"prompt": p} for p in reversed(PROMPTS)])
    with pytest.raises(ValueError, match="other prompts"):
        trainer(tmp_path / "b", rows=reversed_rows).train(resume_from_checkpoint=str(checkpoint))
    torn = checkpoint / "rollout_0.safetensors"
    torn.write_bytes(torn.read_bytes()[:-40])
    with pytest.raises(ValueError, match="rollout_0.safetensors is broken"):
        trainer(tmp_path / "b").train(resume_from_checkpoint=str(checkpoint))
    torn.unlink()
    with pytest.raises(ValueError, match="same number of processes"):
        trainer(tmp_path / "b").train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "ppo_state.json").unlink()
    with pytest.raises(ValueError, match="no checkpoint of PPOTrainer"):
        trainer(tmp_path / "b").train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(ValueError, match="No checkpoint"):
        trainer(tmp_path / "c").train(resume_from_checkpoint=True)


# Saves, evaluates, shows


def test_what_is_saved_loads_elsewhere(folders, tmp_path):
    ppo = trainer(tmp_path, folders["reward"], model=folders["base"], max_steps=2)
    ppo.train()
    ppo.save_model(str(tmp_path / "final"))
    final = tmp_path / "final"
    assert not (final / "model.safetensors").exists() and (final / "tokenizer.json").exists()
    policy = AutoPeftModelForCausalLM.from_pretrained(final)
    assert policy.active_peft_config.base_model_name_or_path == folders["base"]
    # The next run may start from it, value and all.
    again = trainer(
        tmp_path, str(final / "reward"), model=str(final), peft_config=None, value_model=str(final / "value")
    )
    trained, loaded = ppo.model.trainable_state(), again.model.trainable_state()
    assert trained.keys() == loaded.keys()
    assert all(torch.allclose(trained[name], loaded[name]) for name in trained)


def test_evaluation_is_repeatable_and_says_what_it_measured(folders, tmp_path):
    ppo = trainer(tmp_path, [folders["reward"], length_reward], model=folders["base"], eval_rows=ROWS)
    first = ppo.evaluate()
    completions = list(ppo.eval_completions)
    again = ppo.evaluate()
    names = ("reward", "reward_std", "kl", "eos_rate", "mean_length", "entropy")
    assert all(first[f"eval_{name}"] == again[f"eval_{name}"] for name in names)
    assert completions == ppo.eval_completions and len(completions) == len(ROWS)
    assert [row["prompt"] for row in completions] == PROMPTS
    assert first["eval_kl"] == 0.0 and 0 < first["eval_eos_rate"] < 1
    lengths = [row["length_reward"] for row in completions]
    assert first["eval_mean_length"] == pytest.approx(sum(lengths) / len(lengths))
    assert first["eval_rewards/length_reward/mean"] == pytest.approx(sum(lengths) / len(lengths))
    # An evaluation in between leaves the training as it is.
    runs = []
    for strategy in ("no", "steps"):
        run = trainer(tmp_path, eval_rows=ROWS, eval_strategy=strategy, eval_steps=1, max_steps=3)
        run.train()
        runs.append([e["loss"] for e in updates(run)])
    assert runs[0] == runs[1]


def test_the_best_checkpoint_by_reward_comes_back(tmp_path):
    ppo = trainer(
        tmp_path,
        eval_rows=ROWS,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_reward",
        learning_rate=3e-2,
    )
    ppo.train()
    assert ppo.evaluate()["eval_reward"] == max(logged(ppo, "eval_reward"))


def test_completions_are_printed_as_a_table(tmp_path, capsys):
    ppo = trainer(tmp_path, eval_rows=ROWS, log_completions=True, num_completions_to_print=3, max_steps=1)
    ppo.train()
    out = capsys.readouterr().out
    assert "completions, step 1" in out
    for word in ("prompt", "completion", "length_reward", "advantage"):
        assert word in out
    ppo.evaluate()
    assert "eval, step 1" in capsys.readouterr().out


def test_the_config_is_parsed_by_trl_and_survives_its_own_dictionary(tmp_path):
    yaml = tmp_path / "ppo.yaml"
    yaml.write_text("kl_coef: 0.2\ngeneration_kwargs:\n  use_cache: false\n")
    flags = ["--output_dir", str(tmp_path), "--report_to", "none", "--config", str(yaml)]
    flags += ["--generation_batch_size", "32", "--per_device_train_batch_size", "8"]
    (args,) = TrlParser(PPOConfig).parse_args_and_config(args=[*flags, "--reward_clip_range", "-1", "1"])
    assert (args.kl_coef, args.generation_kwargs, args.steps_per_generation) == (0.2, {"use_cache": False}, 4)
    assert args.reward_clip_range == [-1.0, 1.0]
    json.dumps(args.to_dict())
    (args,) = TrlParser(PPOConfig).parse_args_and_config(
        args=["--output_dir", str(tmp_path), "--report_to", "none", "--generation_kwargs", '{"use_cache": true}']
    )
    assert args.generation_kwargs == {"use_cache": True}


# Bad input


def two_labels():
    return tiny_reward_model(num_labels=2)


def no_eos():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    return tokenizer


def one(*rows):
    return Dataset.from_list([{"prompt": row} for row in rows])


BAD_INPUT = {
    "no dataset": (lambda: dict(rows=None), "no prompts"),
    "no rows": (lambda: dict(rows=ROWS.select([])), "no prompts"),
    "no prompt column": (lambda: dict(rows=ROWS.rename_column("prompt", "text")), "no prompts"),
    "a stream": (lambda: dict(rows=ROWS.to_iterable_dataset()), "stream"),
    "fewer rows than a rollout": (lambda: dict(rows=ROWS.select(range(5))), "do not fill one rollout of 8"),
    "empty eval": (lambda: dict(eval_rows=ROWS.select([])), "eval_dataset has no prompts"),
    "empty prompt": (lambda: dict(rows=one(*PROMPTS, "")), "row 20 of train_dataset is empty"),
    "long prompt": (lambda: dict(max_prompt_length=6), r"row \d+ of train_dataset has \d+ tokens; the limit is 6"),
    "no room": (lambda: dict(max_completion_length=250), "256 positions"),
    "no room at all": (lambda: dict(max_completion_length=300), "is 300, and the model has 256 positions"),
    "two labels": (lambda: dict(reward_funcs=two_labels()), "2 labels"),
    "value with two labels": (lambda: dict(value_model=two_labels()), "2 labels"),
    "no reward": (lambda: dict(reward_funcs=[]), "No reward"),
    "eos missing": (lambda: dict(processing_class=no_eos()), "no eos_token"),
    "weights": (lambda: dict(reward_weights=[1.0, 2.0]), "2 reward_weights for 1 reward_funcs"),
    "two values": (lambda: dict(value_trunk="policy", value_model=tiny_reward_model()), "drop one"),
    "another vocabulary": (lambda: dict(reward_funcs=tiny_reward_model(vocab_size=10)), "another tokenizer"),
    "a prompt that is None": (lambda: dict(rows=one(*PROMPTS, None)), "row 20 of train_dataset is None"),
    "a column like an argument": (
        lambda: dict(rows=ROWS.add_column("completions", PROMPTS)),
        "train_dataset has a column 'completions'.*rename",
    ),
    "prompts that are numbers": (lambda: dict(rows=one(*range(20))), "row 0 of train_dataset is 0"),
    "a conversation without a message": (
        lambda: dict(rows=one(*([{"role": "user", "content": p}] for p in PROMPTS), [])),
        r"row 20 of train_dataset is \[\]",
    ),
    "first of all no message": (
        lambda: dict(rows=one([], *([{"role": "user", "content": p}] for p in PROMPTS))),
        r"row 0 of train_dataset is \[\]",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_says_what_to_do(tmp_path, case):
    make, words = BAD_INPUT[case]
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, **make())


def test_a_reference_that_is_the_model_itself_is_an_error(tmp_path):
    model = tiny_llama()
    with pytest.raises(ValueError, match="would move with it"):
        trainer(tmp_path, model=model, ref_model=model, peft_config=None)


BAD_CONFIG = {
    "rollout does not divide": (dict(steps_per_generation=3, gradient_accumulation_steps=2), "multiple of"),
    "generation batch does not divide": (
        dict(steps_per_generation=None, generation_batch_size=6),
        "6 is not a multiple of 4",
    ),
    "both": (dict(steps_per_generation=2, generation_batch_size=16), "give one of them"),
    "temperature": (dict(temperature=0.0), "temperature is 0.0; it is above 0"),
    "top_p": (dict(top_p=1.5), "top_p"),
    "repetition penalty": (dict(repetition_penalty=0.0), "repetition_penalty is 0.0"),
    "no room for prompts": (dict(max_prompt_length=0), "max_prompt_length is 0"),
    "a weight that is no number": (dict(reward_weights=[math.nan]), "reward_weights is .*finite"),
    "a penalty that is a gift": (dict(missing_eos_penalty=-1.0), "missing_eos_penalty is -1.0"),
    "a value loss to be raised": (dict(vf_coef=-0.1), "vf_coef is -0.1"),
    "estimator": (dict(kl_estimator="k2"), "'k1', 'k3'"),
    "trunk": (dict(value_trunk="reward"), "'adapter', 'policy'"),
    "target of nothing": (dict(kl_target=6.0, kl_coef=0.0), "start from"),
    "clip range": (dict(reward_clip_range=[1.0, -1.0]), "least"),
    "stop strings": (dict(generation_kwargs={"stop_strings": ["\n"]}), "stop_strings"),
    "batch finder": (dict(auto_find_batch_size=True), "auto_find_batch_size"),
    "data skip": (dict(ignore_data_skip=True), "ignore_data_skip"),
}


@pytest.mark.parametrize("case", BAD_CONFIG)
def test_bad_settings_are_an_error(tmp_path, case):
    kwargs, words = BAD_CONFIG[case]
    with pytest.raises(ValueError, match=words):
        config(tmp_path, **kwargs)


def broken(prompts, **kwargs):
    raise KeyError("answer")


BAD_REWARDS = {
    "too few": (lambda prompts, **kwargs: [1.0], "returned 1 rewards for 8"),
    "nan": (lambda prompts, **kwargs: [math.nan] * len(prompts), "nan.*finite"),
    "infinite": (lambda prompts, **kwargs: [math.inf] * len(prompts), "inf.*finite"),
    "text": (lambda prompts, **kwargs: ["good"] * len(prompts), "'good'.*finite"),
    "nothing": (lambda prompts, **kwargs: None, "returned None; return a list"),
    "two columns": (lambda prompts, **kwargs: torch.zeros(len(prompts), 2), "finite number"),
}


@pytest.mark.parametrize("case", BAD_REWARDS)
def test_what_a_reward_function_may_not_return(tmp_path, case):
    function, words = BAD_REWARDS[case]
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, function).train()


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_reward_model_whose_scores_are_no_numbers_is_an_error_and_not_a_missing_reward(tmp_path, weight):
    reward = tiny_reward_model()
    reward.score.weight.data.fill_(weight)
    with pytest.raises(ValueError, match="LlamaForSequenceClassification.*scores completion 0 .*(nan|inf)"):
        trainer(tmp_path, reward, value_model=tiny_reward_model()).train()


@pytest.mark.parametrize("peft_config", [lora(), None], ids=["lora", "full"])
def test_a_policy_that_became_nan_is_told_at_its_next_rollout(tmp_path, peft_config):
    class Damage(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 3:  # the rollout of steps 3 and 4 is not used up yet
                next(p for p in model.policy.parameters() if p.requires_grad).data.fill_(math.nan)

    ppo = trainer(tmp_path, callbacks=[Damage()], eval_rows=ROWS, peft_config=peft_config, max_steps=12)
    with pytest.raises(ValueError, match="policy's log-probabilities .* training has diverged"):
        ppo.train()
    assert ppo.state.global_step == 4
    assert math.isnan(ppo.evaluate()["eval_kl"])  # a report of the end can still be made


def test_a_quantized_model_without_an_adapter_is_an_error(folders, tmp_path):
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype="float32")
    with pytest.raises(ValueError, match="peft_config=LoraConfig"):
        trainer(tmp_path, model=folders["base"], peft_config=None, quantization_config=quantization)


def test_a_reward_function_that_raises_is_named(tmp_path):
    with pytest.raises(KeyError) as caught:
        trainer(tmp_path, broken).train()
    assert any("'broken'" in note for note in caught.value.__notes__)


def test_an_adapter_that_shares_no_base_is_loaded_apart(folders, tmp_path, caplog):
    ppo = trainer(tmp_path, folders["reward"], model=tiny_llama(hidden_size=64, eos_logit=5.0))
    assert "base of its own" in caplog.text
    assert not ppo.model.reward_heads
    shared = trainer(tmp_path, folders["reward"], model=folders["base"])
    rows = [ROWS[i] for i in range(4)]
    apart, together = (t.maker(rows, numbers=range(4), seed=[0], slice_size=4) for t in (ppo, shared))
    assert torch.allclose(apart.scores, together.scores, atol=1e-5)
    assert Path(folders["reward"]).name in {r.name for r in ppo.rewards}
