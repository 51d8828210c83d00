"""Every kind of adapter that PEFT offers: its roles stand apart and speak as they are scored, or it is refused."""

import copy

import peft
import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, PeftType, get_peft_model
from transformers import AutoModelForCausalLM

from tests.tiny_lm import tiny_gpt2, tiny_llama
from trl_kochat.measure.logps import completion_logits, pack_rows
from trl_kochat.ppo import PPOConfig
from trl_kochat.ppo.adapters import AdapterRoles
from trl_kochat.ppo.models import Loader
from trl_kochat.ppo.roles import POLICY
from trl_kochat.ppo.sharing import SHARING, can_merge, check_sharing


ROWS = pack_rows([[5, 6, 7, 8], [9, 10]], [[11, 12, 0], [13, 14, 15, 16, 17]], pad_token_id=1)
MODULES = ["q_proj", "v_proj", "down_proj"]


def lora(**kwargs):
    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": MODULES} | kwargs)


# Settings of LoRA: whether base and adapter may be added up, on weights of their own and with lm_head tied to the
# embeddings; None where the setting is refused.
LORA = {
    "plain": (dict(), True, True),
    "all linear": (dict(target_modules="all-linear"), True, True),
    "rslora": (dict(use_rslora=True), True, True),
    "patterns": (dict(rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}), True, True),
    "gaussian": (dict(init_lora_weights="gaussian"), True, True),
    "orthogonal": (dict(init_lora_weights="orthogonal"), True, True),
    "eva": (dict(init_lora_weights="eva"), True, True),
    "lm_head": (dict(target_modules=["lm_head", "q_proj"]), True, False),
    "embeddings": (dict(target_modules=["embed_tokens", "q_proj"]), False, False),
    "dora": (dict(use_dora=True), False, False),
    "mica": (dict(init_lora_weights="mica"), False, False),
    "bias of LoRA": (dict(lora_bias=True), False, False),
    "tokens": (dict(trainable_token_indices=[5, 6, 11]), False, False),
    "saved lm_head": (dict(modules_to_save=["lm_head"]), False, False),
    "bias": (dict(bias="all"), None, None),
    "pissa": (dict(init_lora_weights="pissa"), None, None),
    "pissa fast": (dict(init_lora_weights="pissa_niter_4"), None, None),
    "olora": (dict(init_lora_weights="olora"), None, None),
    "replicated layers": (dict(layer_replication=[(0, 2), (1, 2)]), None, None),
    "parameters": (dict(target_parameters=["q_proj.weight"]), None, None),
    "alora": (dict(alora_invocation_tokens=[5]), None, None),
}
OTHERS = {
    "LOHA": lambda: peft.LoHaConfig(target_modules=MODULES, r=4),
    "LOKR": lambda: peft.LoKrConfig(target_modules=MODULES, r=4),
    "IA3": lambda: peft.IA3Config(target_modules=MODULES, feedforward_modules=["down_proj"]),
    "OFT": lambda: peft.OFTConfig(target_modules=MODULES, oft_block_size=4),
    "BOFT": lambda: peft.BOFTConfig(target_modules=MODULES, boft_block_size=4),
    "VERA": lambda: peft.VeraConfig(target_modules=["q_proj"], r=4),
    "HRA": lambda: peft.HRAConfig(target_modules=MODULES, r=4),
    "MISS": lambda: peft.MissConfig(target_modules=MODULES, r=4),
    "LN_TUNING": lambda: peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "FOURIERFT": lambda: peft.FourierFTConfig(target_modules=MODULES, n_frequency=20),
    "TRAINABLE_TOKENS": lambda: peft.TrainableTokensConfig(token_indices=[5, 6, 11]),
    "SHIRA": lambda: peft.ShiraConfig(target_modules=MODULES, r=2),
    "DELORA": lambda: peft.DeloraConfig(target_modules=MODULES, r=4),
    "HIRA": lambda: peft.HiraConfig(target_modules=MODULES, r=4),
    "C3A": lambda: peft.C3AConfig(target_modules=MODULES, block_size=8),
}


def logits(model):
    with torch.no_grad():
        return completion_logits(model, ROWS)


def roles_stand_apart_and_speak_as_scored(base, config, folder):
    """Whether the policy is generated from merged weights; asserts all else."""
    config.task_type = "CAUSAL_LM"
    base.save_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    expected = logits(copy.deepcopy(base))
    roles = AdapterRoles(base, peft_config=config).eval()
    roles.value_head.weight.data.normal_()
    with torch.no_grad():
        values, ref = roles(**ROWS._asdict()).values, roles.ref_logps(ROWS)
    torch.manual_seed(0)
    for name, parameter in roles.policy.named_parameters():
        if parameter.requires_grad and POLICY in name.split("."):
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    with roles.role(POLICY):
        scoring = logits(roles.policy)
    assert (scoring - expected).abs().max() > 0.05
    with roles.generating() as speaker:
        assert torch.allclose(logits(speaker), scoring, atol=1e-3)
    with roles.role(None):
        assert torch.equal(logits(roles.policy), expected)
    with torch.no_grad():
        assert torch.equal(roles(**ROWS._asdict()).values, values)
    assert torch.equal(roles.ref_logps(ROWS), ref)
    roles.save_pretrained(folder / "saved")
    loaded = AutoPeftModelForCausalLM.from_pretrained(folder / "saved").eval()
    assert torch.allclose(logits(loaded), scoring, atol=1e-3)
    return can_merge(roles.policy, POLICY)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("setting", LORA)
def test_lora(tmp_path, setting, tied):
    kwargs, *merges = LORA[setting]
    base = tiny_llama(hidden_size=64, tie_word_embeddings=tied)
    if merges[tied] is None:
        with pytest.raises(ValueError, match=f"{list(kwargs)[-1]}=.*changes the base"):
            AdapterRoles(base, peft_config=lora(**kwargs))
        return
    assert roles_stand_apart_and_speak_as_scored(base, lora(**kwargs), tmp_path) == merges[tied]


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds(tmp_path, kind):
    assert not roles_stand_apart_and_speak_as_scored(tiny_llama(hidden_size=64), OTHERS[kind](), tmp_path)


def test_lora_on_the_transposed_layers_of_gpt2_is_merged(tmp_path):
    config = lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    assert roles_stand_apart_and_speak_as_scored(tiny_gpt2(), config, tmp_path)


@pytest.mark.parametrize("kind", [kind.value for kind in PeftType])
def test_kinds_that_were_not_tried_are_refused(kind):
    assert (PeftType[kind] in SHARING) == (kind in OTHERS or kind == "LORA")
    if PeftType[kind] not in SHARING:
        with pytest.raises(ValueError, match=f"{kind} is not known to share a base"):
            AdapterRoles(tiny_llama(), peft_config=peft.PeftConfig(peft_type=PeftType[kind]))


@pytest.mark.parametrize("init", ["corda", "loftq", "lora_ga", "olora", "pissa", "pissa_niter_4"])
def test_a_start_that_takes_weights_out_of_the_base_is_refused(init):
    config = lora()
    config.init_lora_weights = init  # some of them want packages or rows of their own to be made
    with pytest.raises(ValueError, match=f"init_lora_weights='{init}' changes the base"):
        check_sharing(config)


def test_two_active_adapters_are_an_error():
    model = get_peft_model(tiny_llama(), lora())
    model.add_adapter("second", lora())
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(ValueError, match="2 active adapters, default, second"):
        AdapterRoles(model)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_changed_its_base_is_refused_before_it_is_loaded(tmp_path, init):
    base = str(tmp_path / "base")
    tiny_llama().save_pretrained(base)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora(init_lora_weights=init))
    model.save_pretrained(tmp_path / "sft")
    with pytest.raises(ValueError, match=f"init_lora_weights='{init}'"):
        Loader(PPOConfig("out", report_to="none", use_cpu=True)).causal(str(tmp_path / "sft"))
    with pytest.raises(ValueError, match=f"init_lora_weights='{init}'"):
        AdapterRoles(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "sft"))
