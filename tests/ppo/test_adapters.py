import copy

import bitsandbytes
import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    AutoPeftModelForSequenceClassification,
    LoHaConfig,
    LoraConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

from tests.families.tiny import tiny_model
from tests.tiny_lm import tiny_gpt2, tiny_llama, tiny_reward_model
from trl_kochat.measure.logps import completion_logits, pack_rows, token_logps
from trl_kochat.ppo.adapters import AdapterRoles
from trl_kochat.ppo.models import disable_dropout, shares_base
from trl_kochat.ppo.roles import POLICY, REWARD, VALUE, Roles, hidden_states


ROWS = pack_rows([[5, 6, 7, 8], [9, 10]], [[11, 12, 0], [13, 14, 15, 16, 17]], pad_token_id=1)


def lora(task_type="CAUSAL_LM", **kwargs):
    return LoraConfig(task_type=task_type, r=4, lora_alpha=8, target_modules="all-linear", **kwargs)


def shake(model, adapter=None, scale=0.1):
    """Move an adapter away from its neutral start."""
    for name, parameter in model.named_parameters():
        if "lora_B" in name and (adapter is None or f".{adapter}." in name):
            parameter.data.normal_(0, scale)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base, and a reward and an SFT adapter trained on it, as stages 1 and 2 leave them."""
    root = tmp_path_factory.mktemp("models")
    base = str(root / "base")
    tiny_llama(hidden_size=64).save_pretrained(base)
    torch.manual_seed(1)
    reward = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    reward = get_peft_model(reward, lora("SEQ_CLS"))
    shake(reward)
    reward.save_pretrained(root / "reward")
    sft = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora())
    shake(sft)
    sft.save_pretrained(root / "sft")
    return {"base": base, "reward": str(root / "reward"), "sft": str(root / "sft")}


def fresh(folders, **kwargs):
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    return AdapterRoles(base, peft_config=lora(), reward_adapters=[folders["reward"]], **kwargs)


def ends(rows):
    return [length - 1 for length in rows.attention_mask.sum(1).tolist()]


def scored_hidden(model, rows):
    return hidden_states(model, rows)[range(len(ends(rows))), ends(rows)]


def rewards(model, rows=ROWS):
    return model.adapter_rewards(REWARD, rows, ends(rows))


def scores_of(model):
    with torch.no_grad():
        return model(**ROWS._asdict())


def test_the_base_is_in_memory_once(folders):
    model = fresh(folders)
    storages = [p.untyped_storage().data_ptr() for p in model.parameters()]
    assert len(set(storages)) == len(storages)
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    adapter = sum(p.numel() for n, p in get_peft_model(copy.deepcopy(base), lora()).named_parameters() if "lora" in n)
    allowed = sum(p.numel() for p in base.parameters()) + 3 * adapter + 2 * base.config.hidden_size
    assert sum(p.numel() for p in model.parameters()) <= allowed


def test_with_adapters_off_the_base_speaks_bit_for_bit(folders):
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    expected = completion_logits(base, ROWS)
    model = fresh(folders)
    for adapter in (POLICY, VALUE, REWARD):
        shake(model.policy, adapter)
    before = scores_of(model)  # pass through all the roles first
    with torch.no_grad(), model.role(None):
        assert torch.equal(completion_logits(model.policy, ROWS), expected)
    assert torch.equal(scores_of(model).per_token_logps, before.per_token_logps)
    assert not torch.allclose(before.per_token_logps, token_logps(expected, ROWS), atol=1e-3)


def test_the_reward_adapter_scores_as_the_reward_model_it_was(folders):
    alone = AutoPeftModelForSequenceClassification.from_pretrained(folders["reward"], num_labels=1)
    alone.config.pad_token_id = 1
    with torch.no_grad():
        expected = alone(input_ids=ROWS.input_ids, attention_mask=ROWS.attention_mask).logits[:, 0]
    assert torch.allclose(rewards(fresh(folders)), expected, atol=1e-6)


def test_the_value_starts_from_the_reward_model_but_token_by_token(folders):
    model = fresh(folders)
    values = scores_of(model).values
    # The value before the last token is the reward model's view of the row without it: not the reward itself, so the
    # first advantage is not zero.
    shorter = pack_rows([[5, 6, 7, 8], [9, 10]], [[11, 12], [13, 14, 15, 16]], pad_token_id=1)
    assert torch.allclose(values[[0, 1], [2, 4]], rewards(model, shorter), atol=1e-5)
    assert (values[[0, 1], [2, 4]] - rewards(model, ROWS)).abs().min() > 1e-3


def step(model, loss):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_a_policy_step_moves_the_policy_alone_and_a_value_step_the_value_alone(folders):
    model = fresh(folders)
    shake(model.policy, POLICY)
    ref = model.ref_logps(ROWS)
    start, reward = scores_of(model), rewards(model, ROWS)

    step(model, model(**ROWS._asdict()).per_token_logps.sum())
    moved = scores_of(model)
    assert not torch.allclose(moved.per_token_logps, start.per_token_logps, atol=1e-3)
    assert torch.equal(moved.values, start.values)

    step(model, model(**ROWS._asdict()).values.sum())
    last = scores_of(model)
    assert not torch.allclose(last.values, moved.values, atol=1e-3)
    assert torch.equal(last.per_token_logps, moved.per_token_logps)
    assert torch.equal(rewards(model, ROWS), reward)
    assert torch.equal(model.ref_logps(ROWS), ref)


def test_a_value_on_the_policys_trunk_shares_its_adapter(folders):
    model = fresh(folders, value_trunk="policy")
    assert VALUE not in model.policy.peft_config
    assert (scores_of(model).values == 0).all()  # a new head of zeros
    model.value_head.weight.data.normal_()
    start = scores_of(model)
    with torch.no_grad(), model.role(POLICY):
        hidden = scored_hidden(model.policy, pack_rows([[5, 6, 7, 8]], [[11, 12]], pad_token_id=1))
    assert torch.allclose(start.values[0, 2], model.value_head(hidden)[0], atol=1e-5)
    step(model, model(**ROWS._asdict()).values.sum())
    assert not torch.allclose(scores_of(model).per_token_logps, start.per_token_logps, atol=1e-3)


def gradients(model):
    model.train()
    out = model(**ROWS._asdict())
    (out.per_token_logps.sum() + out.values.square().sum()).backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return grads


@pytest.mark.parametrize("value_trunk", ["adapter", "policy"])
def test_gradients_are_the_same_with_activation_checkpointing(folders, value_trunk):
    model = fresh(folders, value_trunk=value_trunk)
    for adapter in (POLICY, VALUE):
        shake(model.policy, adapter)
    model.value_head.weight.data.normal_()
    plain = gradients(model)
    model.activation_checkpointing_enable()
    again = gradients(model)
    assert plain.keys() == again.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert all(grad.abs().max() > 0 for grad in plain.values())


def test_the_layers_that_are_checkpointed_are_those_that_are_asked_for_in_policy_and_value():
    model = Roles(tiny_llama(), value_model=tiny_reward_model())
    model.activation_checkpointing_enable(every_n_layers=2)
    for part in (model.policy, model.value_model):
        assert [layer.gradient_checkpointing for layer in part.base_model.layers] == [True, False]


def test_reentrant_checkpointing_is_refused(folders):
    with pytest.raises(ValueError, match="use_reentrant=False"):
        fresh(folders).activation_checkpointing_enable({"use_reentrant": True})


def test_roles_leave_requires_grad_as_it_was(folders):
    model = fresh(folders)
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    assert {n.split(".")[-2] for n, on in flags.items() if on} == {POLICY, VALUE, "value_head"}
    for name in (None, REWARD, VALUE, None, POLICY):
        with model.role(name):
            assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags


@pytest.mark.parametrize("reference", ["sft", "base"])
def test_an_sft_adapter_is_where_the_policy_starts(folders, reference):
    sft = AutoPeftModelForCausalLM.from_pretrained(folders["sft"])
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    with torch.no_grad():
        of_sft = token_logps(completion_logits(sft, ROWS), ROWS)
        of_base = token_logps(completion_logits(base, ROWS), ROWS)
    model = AdapterRoles(AutoPeftModelForCausalLM.from_pretrained(folders["sft"]), reference=reference)
    assert torch.equal(scores_of(model).per_token_logps, of_sft)
    expected = of_sft if reference == "sft" else of_base
    assert torch.equal(model.ref_logps(ROWS), expected)
    step(model, model(**ROWS._asdict()).per_token_logps.sum())
    assert not torch.allclose(scores_of(model).per_token_logps, of_sft, atol=1e-3)
    assert torch.equal(model.ref_logps(ROWS), expected)


def test_the_policy_starts_from_the_adapter_of_any_name():
    model = get_peft_model(tiny_llama(), lora(), adapter_name="mine")
    shake(model)
    with torch.no_grad():
        expected = token_logps(completion_logits(model, ROWS), ROWS)
    roles = AdapterRoles(model)
    assert torch.equal(scores_of(roles).per_token_logps, expected) and torch.equal(roles.ref_logps(ROWS), expected)


def test_adapter_names_that_clash_are_an_error(folders):
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    with pytest.raises(ValueError, match="'policy'.*adapter_name='default'"):
        AdapterRoles(get_peft_model(base, lora(), adapter_name="policy"))


def test_the_names_of_several_rewards_clash_too(folders):
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    model = get_peft_model(base, lora(), adapter_name="reward_2")
    with pytest.raises(ValueError, match="'reward_2'.*adapter_name='default'"):
        AdapterRoles(model, reward_adapters=[folders["reward"], folders["reward"]])


def test_a_module_may_hold_the_name_of_an_adapter_in_its_own(tmp_path):
    """GPT-NeoX's `query_key_value` holds `value`."""
    base = tiny_model("gpt_neox")
    base.save_pretrained(tmp_path / "base")
    reward = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    get_peft_model(reward, lora("SEQ_CLS")).save_pretrained(tmp_path / "reward")
    model = AdapterRoles(base, peft_config=lora(), reward_adapters=[str(tmp_path / "reward")])
    assert model.has_value_adapter and scores_of(model).values.shape == (2, 5)


@pytest.mark.parametrize("layers", [1, 3])
def test_an_adapter_of_another_base_is_an_error(tmp_path, layers):
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj"])
    get_peft_model(tiny_reward_model(hidden_size=64, layers=layers), config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not belong to the policy's base"):
        AdapterRoles(tiny_llama(hidden_size=64), peft_config=lora(), reward_adapters=[str(tmp_path)])


def test_two_adapters_and_prompt_tuning_are_errors(folders):
    sft = AutoPeftModelForCausalLM.from_pretrained(folders["sft"])
    with pytest.raises(ValueError, match="has an adapter already"):
        AdapterRoles(sft, peft_config=lora())
    with pytest.raises(ValueError, match="LoraConfig"):
        AdapterRoles(tiny_llama(), peft_config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))


def test_an_adapter_without_a_reward_head_is_an_error(folders):
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    with pytest.raises(ValueError, match="no reward head"):
        AdapterRoles(base, peft_config=lora(), reward_adapters=[folders["sft"]])


def test_a_reward_adapter_with_two_labels_is_an_error(folders, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(folders["base"], num_labels=2)
    get_peft_model(model, lora("SEQ_CLS")).save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(folders["base"])
    with pytest.raises(ValueError, match="2 labels"):
        AdapterRoles(base, peft_config=lora(), reward_adapters=[str(tmp_path)])


def test_saved_adapters_load_with_peft_alone(folders, tmp_path):
    model = fresh(folders)
    for adapter in (POLICY, VALUE):
        shake(model.policy, adapter)
    model.value_head.weight.data.normal_()
    start = scores_of(model)
    model.save_pretrained(tmp_path)

    policy = AutoPeftModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(token_logps(completion_logits(policy, ROWS), ROWS), start.per_token_logps, atol=1e-6)
    for name, role in (("value", VALUE), ("reward", REWARD)):
        alone = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / name, num_labels=1)
        alone.config.pad_token_id = 1
        with torch.no_grad():
            got = alone(input_ids=ROWS.input_ids, attention_mask=ROWS.attention_mask).logits[:, 0]
            with model.role(role):
                head = model.value_head if name == "value" else model.reward_heads[REWARD]
                assert torch.allclose(got, head(scored_hidden(model.policy, ROWS)), atol=1e-5)
    # A later run starts its value there.
    later = AdapterRoles(
        AutoModelForCausalLM.from_pretrained(folders["base"]), peft_config=lora(), value_source=str(tmp_path / "value")
    )
    assert torch.allclose(scores_of(later).values, start.values, atol=1e-6)


@pytest.mark.parametrize("value_trunk", ["adapter", "policy"])
def test_the_trained_state_goes_round(folders, value_trunk):
    model, other = fresh(folders, value_trunk=value_trunk), fresh(folders, value_trunk=value_trunk)
    for adapter in (POLICY, VALUE):
        shake(model.policy, adapter)
    model.value_head.weight.data.normal_()
    other.load_state_dict(model.trainable_state())
    ours, theirs = scores_of(model), scores_of(other)
    assert torch.equal(ours.per_token_logps, theirs.per_token_logps) and torch.equal(ours.values, theirs.values)
    wrong = fresh(folders, value_trunk="policy" if value_trunk == "adapter" else "adapter")
    with pytest.raises(ValueError, match="value_trunk"):
        wrong.load_state_dict(model.trainable_state())


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_without_lora_the_value_is_a_model_of_its_own(make, tmp_path):
    policy = make()
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    value = AutoModelForSequenceClassification.from_config(config).eval()
    model = Roles(policy, value_model=value)
    scores = scores_of(model)
    hidden = value.base_model(ROWS.input_ids, attention_mask=ROWS.attention_mask).last_hidden_state
    per_token = value.score(hidden)[..., 0]
    assert torch.allclose(scores.values[0, :3], per_token[0, 3:6], atol=1e-5)
    assert torch.allclose(scores.values[1], per_token[1, 1:6], atol=1e-5)

    step(model, model(**ROWS._asdict()).values.sum())
    assert torch.equal(scores_of(model).per_token_logps, scores.per_token_logps)
    model.save_pretrained(tmp_path)
    policy.load_state_dict(AutoModelForCausalLM.from_pretrained(tmp_path).state_dict())  # where users look for it
    saved = scores_of(model).values
    value.score.weight.data.zero_()
    model.load_value(tmp_path)
    assert torch.allclose(scores_of(model).values, saved, atol=1e-6)


def four_bit(folders):
    # hidden 64: NF4 works in blocks of 64 weights.
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    return AutoModelForCausalLM.from_pretrained(folders["base"], quantization_config=quantization)


def test_a_4_bit_base_carries_all_roles(folders):
    model = AdapterRoles(four_bit(folders), peft_config=lora(), reward_adapters=[folders["reward"]]).eval()
    start, reward = scores_of(model), rewards(model, ROWS)
    assert torch.equal(model.ref_logps(ROWS), start.per_token_logps)
    step(model, model(**ROWS._asdict()).values.sum() + model(**ROWS._asdict()).per_token_logps.sum())
    after = scores_of(model)
    assert not torch.allclose(after.values, start.values, atol=1e-3)
    assert not torch.allclose(after.per_token_logps, start.per_token_logps, atol=1e-3)
    assert torch.equal(model.ref_logps(ROWS), start.per_token_logps)
    assert torch.equal(rewards(model, ROWS), reward)


@pytest.mark.parametrize("used_before", [False, True])
def test_a_4_bit_base_has_the_gradients_of_its_own_weights_after_generation(folders, used_before):
    base = four_bit(folders).eval()
    if used_before:
        with torch.no_grad():
            base(ROWS.input_ids)
    torch.manual_seed(0)
    model = AdapterRoles(base, peft_config=lora(), reward_adapters=[folders["reward"]])
    # The same in float32: a base that holds the weights that NF4 rounded to.
    plain_base = AutoModelForCausalLM.from_pretrained(folders["base"])
    quantized = dict(model.policy.get_base_model().named_modules())
    for name, module in plain_base.named_modules():
        layer = quantized.get(f"{name}.base_layer")
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            weight = layer.weight
            module.weight.data = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state).float()
    torch.manual_seed(0)
    plain = AdapterRoles(plain_base, peft_config=lora(), reward_adapters=[folders["reward"]])
    for adapter in (POLICY, VALUE):
        shake(plain.policy, adapter)
    model.load_state_dict(plain.trainable_state())
    model.eval()
    scores_of(model)
    expected, got = gradients(plain), gradients(model)
    assert expected.keys() == got.keys()
    for name in expected:
        assert (got[name] - expected[name]).norm() < 1e-3 * expected[name].norm(), name
    model.activation_checkpointing_enable()
    again = gradients(model)
    assert all(torch.equal(got[name], again[name]) for name in got)


def test_padding_changes_no_score(folders):
    model = fresh(folders)
    long = pack_rows([[5, 6, 7, 8], [9] * 30], [[11, 12, 0], [13] * 20], pad_token_id=0)  # pad = EOS
    alone = pack_rows([[5, 6, 7, 8]], [[11, 12, 0]], pad_token_id=1)
    with torch.no_grad():
        wide, narrow = model(**long._asdict(), with_entropies=True), model(**alone._asdict(), with_entropies=True)
    for ours, theirs in zip(wide, narrow, strict=True):
        assert torch.allclose(ours[:1, :3], theirs, atol=1e-5)
        assert (ours[0, 3:] == 0).all()
    assert torch.allclose(rewards(model, long)[:1], rewards(model, alone), atol=1e-5)


def test_models_of_another_width_are_still_separate():
    # The value model may be of another shape than the policy's.
    value = tiny_reward_model(hidden_size=16)
    model = AdapterRoles(tiny_llama(), peft_config=lora(), value_source=value)
    assert scores_of(model).values.shape == (2, 5)


def test_no_dropout_of_an_adapter_is_left():
    adapter = LoHaConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], rank_dropout=0.5, module_dropout=0.5)
    model = get_peft_model(tiny_llama(), adapter).train()
    for name, parameter in model.named_parameters():
        if "hada" in name:
            parameter.data.normal_()

    def passes():
        return {tuple(completion_logits(model, ROWS).flatten().tolist()) for _ in range(8)}

    torch.manual_seed(0)
    assert len(passes()) > 2
    disable_dropout(model)
    assert len(passes()) == 1


def test_a_base_at_another_name_is_the_same_base(folders, tmp_path):
    (tmp_path / "link").symlink_to(folders["base"])
    here, there = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "link", folders["base"]))
    assert shares_base(folders["reward"], here) and shares_base(folders["reward"], there)
    there.save_pretrained(tmp_path / "copy")
    assert not shares_base(folders["reward"], AutoModelForCausalLM.from_pretrained(tmp_path / "copy"))
    in_memory = get_peft_model(tiny_llama(), lora())
    in_memory.save_pretrained(tmp_path / "nameless")
    assert shares_base(str(tmp_path / "nameless"), there) and shares_base(str(tmp_path / "nameless"), tiny_llama())


def test_generating_from_merged_weights_leaves_the_base_bit_for_bit(folders):
    model = fresh(folders)
    shake(model.policy, POLICY)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with torch.no_grad(), model.role(POLICY):
        unmerged = completion_logits(model.policy, ROWS)
    with torch.no_grad(), model.generating(merge=True) as speaker:
        merged = completion_logits(speaker, ROWS)
    assert torch.allclose(merged, unmerged, atol=1e-4) and not torch.equal(merged, unmerged)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    with pytest.raises(KeyError), model.generating(merge=True):
        raise KeyError("in the middle")
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    with torch.no_grad(), model.generating(merge=False):
        assert torch.equal(completion_logits(model.policy, ROWS), unmerged)


def test_what_cannot_be_merged_is_generated_from_as_it_is(folders):
    for model in (
        AdapterRoles(four_bit(folders), peft_config=lora()),
        AdapterRoles(AutoModelForCausalLM.from_pretrained(folders["base"]), peft_config=lora(use_dora=True)),
    ):
        shake(model.policy, POLICY)
        model.eval()
        with torch.no_grad(), model.role(POLICY):
            unmerged = completion_logits(model.policy, ROWS)
        with torch.no_grad(), model.generating():
            assert torch.equal(completion_logits(model.policy, ROWS), unmerged)
        with pytest.raises(ValueError, match="leave it out"), model.generating(merge=True):
            pass
