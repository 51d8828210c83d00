"""How each family renders a conversation, written from its published rendering as short as says it.

No text of a model's own file is here; `compared` in `tiny.py` says what each was compared with.
"""

from importlib.resources import files


def _of_trl(name: str) -> str:
    return files("trl").joinpath("chat_templates", f"{name}.jinja").read_text(encoding="utf-8")


EXAONE_35 = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' }}{% endif %}"
    "{{ '[|' + m['role'] + '|]' + m['content'] + ('\\n' if m['role'] == 'user' else '[|endofturn|]\\n') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
)
# Reasoning is off unless asked for, and what was thought before is left out.
EXAONE_4 = (
    "{%- macro opened() -%}{{- '[|assistant|]\\n<think>\\n\\n</think>\\n\\n' -}}{%- endmacro -%}"
    "{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}"
    "{{- opened() + m['content'].split('</think>')[-1].strip() if '</think>' in m['content'] "
    "else opened() + m['content'] -}}{{- '[|endofturn|]\\n' -}}"
    "{%- else -%}{{- '[|' + m['role'] + '|]\\n' + m['content'] + '[|endofturn|]\\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- opened() if not enable_thinking else '[|assistant|]\\n<think>\\n' -}}{%- endif -%}"
)
# A block for tools and one for the system text always stand there; an answer ends in two tokens.
HYPERCLOVAX = (
    "{% if messages[0]['role'] != 'tool_list' %}{{ '<|im_start|>tool_list\\n<|im_end|>\\n' }}{% endif %}"
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + "
    "('<|endofturn|>\\n' if m['role'] == 'assistant' else '\\n') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SOLAR_OPEN = (
    "{% for m in messages %}{{ '<|begin|>' + m['role'] + '<|content|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|begin|>assistant' }}{% endif %}"
)
LLAMA_3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
# A system text always stands there, with the model's own introduction before what is given.
MIDM_2 = (
    "{{ '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2024\\n"
    "Today Date: July 04, 2025\\n\\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% set rest = messages[1:] %}"
    "{% else %}{{ '믿:음입니다.' }}{% set rest = messages %}{% endif %}{{ '<|eot_id|>' }}"
    "{% for m in rest %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + "
    "'<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
# Nothing at all stands behind an answer.
SOLAR_10 = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ '### System:\\n' + m['content'] + '\\n\\n' if m['content'] else '' }}"
    "{% elif m['role'] == 'user' %}{{ '### User:\\n' + m['content'] + '\\n\\n' }}"
    "{% else %}{{ '### Assistant:\\n' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
# Llama 2's: the system text stands inside the first question.
KULLM_3 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ '<s>[INST] ' + (system if loop.first else '') + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' </s>' }}{% endif %}{% endfor %}"
)
QWEN_3 = _of_trl("qwen3")
AX_4 = (
    "{% for m in messages %}{{ '<|im_start|><|' + m['role'] + '|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|><|assistant|>' }}{% endif %}"
)
GEMMA_3 = (
    "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\\n' + "
    "(system if loop.first else '') + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
PHI_3 = _of_trl("phi3")
