import math

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import processors
from trl import DPOConfig, DPOTrainer

from tests.tiny_lm import tiny_gpt2, tiny_llama, tiny_tokenizer
from trl_kochat.measure.logps import (
    completion_logits,
    dpo_loss,
    pack_rows,
    response_logps,
    sequence_logps,
    token_entropies,
    token_logps,
)


TOKENIZER = tiny_tokenizer()
MODELS = {"llama": tiny_llama(), "gpt2": tiny_gpt2()}
PROMPT = "오늘 미세먼지 어때?\n"
RESPONSES = ["오늘은 맑아요.", "hello world", "네"]


def naive_logp(model, ids: list[int], border: int) -> float:
    """Sum over the answer's tokens, one forward pass each, in double precision and without padding."""
    model = model.double()
    total = 0.0
    with torch.no_grad():
        for t in range(border, len(ids)):
            logits = model(torch.tensor([ids[:t]])).logits[0, -1].tolist()
            top = max(logits)
            total += logits[ids[t]] - top - math.log(sum(math.exp(x - top) for x in logits))
    model.float()
    return total


@pytest.mark.parametrize("name", MODELS)
def test_equals_a_naive_double_precision_loop(name):
    model = MODELS[name]
    with torch.no_grad():
        got = response_logps(model, TOKENIZER, PROMPT, RESPONSES)
    prompt_ids = TOKENIZER(PROMPT)["input_ids"]
    for response, logp in zip(RESPONSES, got, strict=True):
        ids = TOKENIZER(PROMPT + response + "</s>")["input_ids"]
        assert ids[: len(prompt_ids)] == prompt_ids
        assert logp.item() == pytest.approx(naive_logp(model, ids, len(prompt_ids)), abs=1e-4)
    assert got.dtype == torch.float32 and got.shape == (3,)


@settings(max_examples=25, deadline=None)
@given(
    prompt=st.text("오늘 미세먼지hello?\n", min_size=1, max_size=12),
    responses=st.lists(st.text("오늘은 맑아요. world", min_size=1, max_size=12), min_size=1, max_size=4),
    batch_size=st.integers(1, 4),
)
def test_any_text_equals_the_naive_loop_from_the_shared_border(prompt, responses, batch_size):
    # What a model says of an answer does not depend on what it is batched with, or on who is longer.
    with torch.no_grad():
        got = response_logps(MODELS["gpt2"], TOKENIZER, "<s>" + prompt, responses, batch_size=batch_size)
    prompt_ids = TOKENIZER("<s>" + prompt)["input_ids"]
    full = [TOKENIZER("<s>" + prompt + response + "</s>")["input_ids"] for response in responses]
    border = min(
        next((i for i, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b), len(prompt_ids))
        for ids in full
    )
    for ids, logp in zip(full, got, strict=True):
        assert logp.item() == pytest.approx(naive_logp(MODELS["gpt2"], ids, border), abs=1e-3)


def test_per_token_parts_sum_to_the_whole_and_eos_is_the_last_of_them():
    with torch.no_grad():
        total = response_logps(MODELS["llama"], TOKENIZER, PROMPT, RESPONSES)
        parts = response_logps(MODELS["llama"], TOKENIZER, PROMPT, RESPONSES, per_token=True)
        without = response_logps(MODELS["llama"], TOKENIZER, PROMPT, RESPONSES, per_token=True, count_eos=False)
    for whole, row, shorter in zip(total, parts, without, strict=True):
        assert torch.allclose(row.sum(), whole)
        assert torch.allclose(row[:-1], shorter, atol=1e-5)


def test_a_conversation_is_scored_as_the_chat_template_renders_it():
    messages = [{"role": "user", "content": "파이썬이 뭐야?"}]
    text = "<|user|>\n파이썬이 뭐야?</s>\n<|assistant|>\n"
    model = MODELS["gpt2"]
    prompt_ids = TOKENIZER(text)["input_ids"]
    with torch.no_grad():
        counted = response_logps(model, TOKENIZER, messages, ["언어입니다."])
        bare = response_logps(model, TOKENIZER, messages, ["언어입니다."], count_eos=False)
    closed = TOKENIZER(text + "언어입니다.</s>\n")["input_ids"]
    open_ended = TOKENIZER(text + "언어입니다.")["input_ids"]
    assert counted.item() == pytest.approx(naive_logp(model, closed, len(prompt_ids)), abs=1e-4)
    assert bare.item() == pytest.approx(naive_logp(model, open_ended, len(prompt_ids)), abs=1e-4)


def notebook_logp(model, prompt: str, response: str) -> float:
    """The slice of the notebook: everything after the prompt's own number of tokens."""
    ids = TOKENIZER(prompt + response, return_tensors="pt")["input_ids"]
    prompt_length = len(TOKENIZER(prompt)["input_ids"])
    logps = model(ids).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    return logps[:, prompt_length - 1 :].sum().item()


@torch.no_grad()
def test_the_notebooks_slice_is_right_where_the_border_holds_and_wrong_where_it_merges():
    model = MODELS["llama"]
    held = response_logps(model, TOKENIZER, "quick\n", ["brown fox"], count_eos=False).item()
    assert notebook_logp(model, "quick\n", "brown fox") == pytest.approx(held, abs=1e-4)

    prompt, response = "hello hel", "lo world"  # "hello" is one token in the whole
    prompt_ids, full_ids = TOKENIZER(prompt)["input_ids"], TOKENIZER(prompt + response)["input_ids"]
    assert full_ids[: len(prompt_ids)] != prompt_ids
    merged = response_logps(model, TOKENIZER, prompt, [response], count_eos=False).item()
    border = next(i for i, (a, b) in enumerate(zip(prompt_ids, full_ids, strict=False)) if a != b)
    assert merged == pytest.approx(naive_logp(model, full_ids, border), abs=1e-4)
    assert notebook_logp(model, prompt, response) > merged + 0.5  # tokens it never looked at


@pytest.mark.parametrize("conversational", [False, True])
def test_equals_what_dpo_trainer_logs(conversational, tmp_path):
    texts = [
        ("오늘 미세먼지 어때?\n", "오늘은 맑아요.", "몰라"),
        ("파이썬이 뭐야?\n", "배우기 쉬운 언어입니다.", "hello"),
        ("hello hel", "lo world", "X"),  # merges for one answer only
    ]
    rows = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in texts]
    if conversational:
        roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
        rows = [{k: [{"role": roles[k], "content": v}] for k, v in row.items()} for row in rows]
    policy, reference = tiny_llama(seed=3), tiny_llama(seed=4)
    args = DPOConfig(
        output_dir=str(tmp_path),
        per_device_eval_batch_size=4,
        max_length=None,
        report_to="none",
        use_cpu=True,
        bf16=False,
        beta=0.2,
    )
    dataset = Dataset.from_list(rows)
    trainer = DPOTrainer(
        policy, ref_model=reference, args=args, train_dataset=dataset, eval_dataset=dataset, processing_class=TOKENIZER
    )
    logged = trainer.evaluate()

    prompts = [[{"role": "user", "content": p}] if conversational else p for p, _, _ in texts]
    with torch.no_grad():
        ours = torch.stack(
            [
                torch.stack([response_logps(m, TOKENIZER, p, [c, r]) for m in (policy, reference)])
                for p, (_, c, r) in zip(prompts, texts, strict=True)
            ]
        )  # (rows, policy and reference, chosen and rejected)
    loss = dpo_loss(ours[:, 0, 0], ours[:, 0, 1], ours[:, 1, 0], ours[:, 1, 1], beta=0.2)
    assert logged["eval_logps/chosen"] == pytest.approx(ours[:, 0, 0].mean().item(), abs=1e-4)
    assert logged["eval_logps/rejected"] == pytest.approx(ours[:, 0, 1].mean().item(), abs=1e-4)
    assert logged["eval_loss"] == pytest.approx(loss.losses.mean().item(), abs=1e-4)
    assert logged["eval_rewards/chosen"] == pytest.approx(loss.chosen_rewards.mean().item(), abs=1e-4)
    assert logged["eval_rewards/rejected"] == pytest.approx(loss.rejected_rewards.mean().item(), abs=1e-4)


def test_gradients_reach_the_model():
    # Along the gradient, the sum moves as far as the gradient says.
    model = tiny_llama().double()
    weight = model.model.layers[0].self_attn.q_proj.weight
    response_logps(model, TOKENIZER, PROMPT, RESPONSES).sum().backward()
    direction = weight.grad / weight.grad.norm()
    values = []
    with torch.no_grad():
        for step in (1e-3, -1e-3):
            weight.add_(direction, alpha=step)
            values.append(response_logps(model, TOKENIZER, PROMPT, RESPONSES).sum().item())
            weight.sub_(direction, alpha=step)
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(weight.grad.norm().item(), rel=1e-2)


def test_logits_over_the_prompt_are_not_computed():
    rows = pack_rows([[5] * 40, [6] * 38], [[7] * 3, [8] * 2], pad_token_id=1)
    adapted = get_peft_model(tiny_llama(), LoraConfig(target_modules=["q_proj"]))
    for model in (MODELS["llama"], adapted):
        assert completion_logits(model, rows).shape[1] <= 6


@torch.no_grad()
def test_the_logits_of_a_long_prompt_are_never_in_memory():
    model, positions = tiny_llama(), []
    model.lm_head.register_forward_hook(lambda module, inputs, logits: positions.append(logits.shape[1]))
    response_logps(model, TOKENIZER, PROMPT * 30, RESPONSES)
    longest = max(len(TOKENIZER(response + "</s>")["input_ids"]) for response in RESPONSES)
    assert len(TOKENIZER(PROMPT * 30)["input_ids"]) > 10 * longest
    assert positions and max(positions) <= longest + 2


def test_a_model_that_cannot_leave_prompt_logits_out_gives_the_same():
    class Whole(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, use_cache):
            assert not use_cache  # memory for nothing: no token follows
            return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    with torch.no_grad():
        whole = response_logps(Whole(MODELS["llama"]), TOKENIZER, PROMPT, RESPONSES)
        assert torch.allclose(whole, response_logps(MODELS["llama"], TOKENIZER, PROMPT, RESPONSES), atol=1e-5)


def test_padding_and_neighbours_change_nothing():
    long = pack_rows([[5, 6, 7], [9] * 20], [[8, 1, 0], [4] * 30], pad_token_id=0)  # pad and eos inside the answer
    short = pack_rows([[5, 6, 7]], [[8, 1, 0]], pad_token_id=1)
    with torch.no_grad():
        logits, alone = completion_logits(MODELS["gpt2"], long), completion_logits(MODELS["gpt2"], short)
    expected = token_logps(alone, short)[0]
    assert torch.allclose(token_logps(logits, long)[0, :3], expected, atol=1e-5)
    assert (token_logps(logits, long)[0, 3:] == 0).all()
    entropies = token_entropies(logits, long)
    assert torch.allclose(entropies[0, :3], token_entropies(alone, short)[0], atol=1e-5)
    assert (entropies[0, :3] > 0).all() and (entropies[0, 3:] == 0).all()


def test_entropy_of_indifference_is_the_log_of_the_vocabulary():
    rows = pack_rows([[5]], [[6, 7]], pad_token_id=0)
    assert token_entropies(torch.zeros(1, 3, 300), rows).tolist()[0] == pytest.approx([math.log(300)] * 2)


def test_a_temperature_is_that_of_the_distribution_and_entropies_are_measured_not_learnt():
    rows = pack_rows([[5]], [[6, 7]], pad_token_id=0)
    logits = torch.randn(1, 3, 300, requires_grad=True)
    assert torch.allclose(token_logps(logits, rows, temperature=2.0), token_logps(logits / 2, rows))
    assert not torch.allclose(token_logps(logits, rows, temperature=2.0), token_logps(logits, rows))
    cold, warm = (token_entropies(logits, rows, temperature=t) for t in (0.5, 2.0))
    assert (cold < warm).all() and not warm.requires_grad
    assert torch.allclose(warm, token_entropies(logits / 2, rows))


def test_rows_are_laid_out_on_the_device_that_is_asked_for():
    rows = pack_rows([[5, 6], [7]], [[7], [8, 9]], pad_token_id=0, device="meta")
    assert {tensor.device.type for tensor in rows[:4]} == {"meta"}


def passes_of(model):
    """The tensors of ids that each forward pass of the model will get."""
    passes = []
    model.register_forward_pre_hook(lambda _, args, kwargs: passes.append(kwargs["input_ids"]), with_kwargs=True)
    return passes


def test_sequences_of_like_length_share_a_forward_pass():
    model = tiny_llama()
    passes = passes_of(model)
    sequences = [([5] * length, 1) for length in (2, 20, 3, 19)]
    with torch.no_grad():
        logps = sequence_logps(model, sequences, pad_token_id=None, batch_size=2)
    assert [tuple(ids.shape) for ids in passes] == [(2, 3), (2, 20)] and [len(row) for row in logps] == [1, 19, 2, 18]


@pytest.mark.parametrize(("batch_size", "rows"), [(1, [1, 1, 1]), (2, [2, 1])])
def test_as_many_responses_share_a_forward_pass_as_are_asked_for(batch_size, rows):
    model = tiny_llama()
    passes = passes_of(model)
    response_logps(model, TOKENIZER, PROMPT, RESPONSES, batch_size=batch_size)
    assert [len(ids) for ids in passes] == rows


def test_rows_are_laid_out_where_the_model_is():
    model = tiny_llama().to("meta")  # a device without numbers, on which nothing can be scored
    passes = passes_of(model)
    with pytest.raises(RuntimeError):
        sequence_logps(model, [([5, 6], 1)], pad_token_id=None)
    assert [ids.device.type for ids in passes] == ["meta"]


def test_one_token_before_the_answer_is_enough_and_none_is_not():
    assert len(TOKENIZER("<s>")["input_ids"]) == 1
    logp = response_logps(MODELS["gpt2"], TOKENIZER, "<s>", ["네"]).item()
    assert logp == pytest.approx(naive_logp(MODELS["gpt2"], TOKENIZER("<s>네</s>")["input_ids"], 1), abs=1e-4)
    with pytest.raises(ValueError, match="A prompt without a token"):
        pack_rows([[5], []], [[6], [7]], pad_token_id=0)


def test_chat_template_kwargs_reach_the_template():
    toned = tiny_tokenizer()
    toned.chat_template = "{{ tone }}: " + toned.chat_template
    messages = [{"role": "user", "content": "네?"}]
    with torch.no_grad():
        polite, plain, again = (
            response_logps(MODELS["gpt2"], toned, messages, ["네"], chat_template_kwargs={"tone": tone}).item()
            for tone in ("world", "hello", "world")
        )
    assert polite == again != plain


def test_dpo_loss_is_log_two_where_policy_equals_reference():
    out = dpo_loss(torch.tensor([-5.0, -80.0]), torch.tensor([-9.0, -2.0]), -torch.tensor([5.0, 80.0]), -torch.tensor([9.0, 2.0]))  # fmt: skip
    assert out.losses.tolist() == pytest.approx([math.log(2)] * 2)
    assert out.chosen_rewards.tolist() == out.rejected_rewards.tolist() == [0.0, 0.0]


def test_dpo_loss_passes_gradcheck_and_survives_large_margins():
    inputs = [torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    assert torch.autograd.gradcheck(lambda *x: dpo_loss(*x, beta=0.5).losses, inputs)
    zero = torch.zeros(2)
    policy = torch.tensor([1e6, -1e6], requires_grad=True)
    out = dpo_loss(policy, zero, zero, zero)
    out.losses.sum().backward()
    assert out.losses.tolist() == pytest.approx([0.0, 1e5]) and policy.grad.tolist() == pytest.approx([0.0, -0.1])


def test_dpo_loss_keeps_small_differences_of_half_precision_sums():
    # Rewards 51.2 and 51.0: bfloat16 has no number between 51.0 and 51.25.
    half = torch.tensor([512.0], dtype=torch.bfloat16)
    out = dpo_loss(half, half - 2, torch.zeros(1), torch.zeros(1))
    assert out.losses.dtype == torch.float32
    assert out.losses.item() == pytest.approx(math.log1p(math.exp(-0.2)), abs=1e-5)


def test_dpo_rewards_carry_no_gradient_and_losses_do():
    policy = torch.zeros(2, requires_grad=True)
    out = dpo_loss(policy, policy * 2, torch.zeros(2), torch.zeros(2))
    assert out.losses.requires_grad and not out.chosen_rewards.requires_grad and not out.rejected_rewards.requires_grad


def test_dpo_loss_takes_plain_numbers():
    out = dpo_loss(-85.5, -59.0, -86.5, -58.0)
    assert out.losses.item() == pytest.approx(math.log1p(math.exp(-0.2)), abs=1e-6)


def test_an_end_that_the_tokenizer_writes_itself_is_not_counted_either():
    ending = tiny_tokenizer()
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", ending.eos_token_id)]
    )
    assert ending("네")["input_ids"][-1] == ending.eos_token_id
    expected = response_logps(MODELS["llama"], TOKENIZER, PROMPT, RESPONSES, count_eos=False)
    got = response_logps(MODELS["llama"], ending, PROMPT, RESPONSES, count_eos=False)
    assert got.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    (per_token,) = response_logps(MODELS["llama"], ending, PROMPT, ["네"], count_eos=False, per_token=True)
    assert len(per_token) == len(TOKENIZER("네")["input_ids"])


BAD = {
    "one string": (dict(responses="네"), "list"),
    "no response": (dict(responses=[]), "at least one"),
    "empty response": (dict(responses=[""], count_eos=False), "no token"),
    "empty prompt": (dict(prompt="", responses=["네"]), "No token of the prompt '' .* BOS"),
    "batch size": (dict(responses=["네"], batch_size=0), "batch_size"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_error_that_says_what_to_do(case):
    kwargs, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        response_logps(MODELS["llama"], TOKENIZER, **({"prompt": PROMPT} | kwargs))


def test_missing_template_and_missing_eos_are_errors():
    bare = tiny_tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="chat template"):
        response_logps(MODELS["llama"], bare, [{"role": "user", "content": "네"}], ["네"])
    bare.eos_token = None
    with pytest.raises(ValueError, match="eos_token"):
        response_logps(MODELS["llama"], bare, PROMPT, ["네"])


def test_dpo_loss_refuses_shapes_that_would_broadcast_and_a_beta_of_nothing():
    with pytest.raises(ValueError, match="one shape"):
        dpo_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(1))
    with pytest.raises(ValueError, match="beta"):
        dpo_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(2), beta=0.0)
