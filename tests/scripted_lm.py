"""A causal model that says what the test tells it to, whatever it is asked."""

import torch
from transformers import LlamaForCausalLM

from tests.tiny_lm import llama_config


class ScriptedLM(LlamaForCausalLM):
    """Row `i` of all the rows it is given emits `script[i]`, token by token, then the last of them again and again."""

    def write(self, script: list[list[int]]) -> "ScriptedLM":
        self.script, self.rows_done, self.batch = script, 0, 0
        return self

    def forward(self, input_ids=None, past_key_values=None, **kwargs):
        output = super().forward(input_ids=input_ids, past_key_values=past_key_values, **kwargs)
        if input_ids.shape[1] > 1:  # the prompts of the next batch
            self.rows_done, self.batch, self.step = self.rows_done + self.batch, len(input_ids), 0
        logits = torch.full_like(output.logits, -1e4)
        for row in range(self.batch):
            line = self.script[self.rows_done + row]
            logits[row, -1, line[min(self.step, len(line) - 1)]] = 0.0
        self.step += 1
        output.logits = logits
        return output


def scripted_llama(script: list[list[int]], **kwargs) -> ScriptedLM:
    torch.manual_seed(0)
    return ScriptedLM(llama_config(**kwargs)).eval().write(script)
