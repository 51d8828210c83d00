import pytest

from trl_kochat.errors import InputError
from trl_kochat.text.prompts import prompt_id, prompt_key


@pytest.mark.parametrize("prompt", ["네 \ud83d", [{"role": "user", "content": "네 \ud83d"}]])
@pytest.mark.parametrize("read", [prompt_id, prompt_key])
def test_half_a_character_is_refused_in_our_words(read, prompt):
    with pytest.raises(ValueError, match="half a character") as refused:
        read(prompt)
    assert type(refused.value) is InputError
