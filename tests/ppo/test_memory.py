"""Two hundred steps of PPO hold no more at their end than in their middle."""

import gc
import sys
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from .test_trainer import trainer


STEPS, SAMPLES = 200, 10


class Watch(TrainerCallback):
    """What is alive after every so many steps, once what nobody holds has been collected."""

    def __init__(self, every):
        self.every = every
        self.tensors, self.elements, self.objects, self.resident = [], [], [], []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every:
            return
        gc.collect()
        alive = gc.get_objects()
        tensors = [one for one in alive if issubclass(type(one), torch.Tensor)]
        self.tensors.append(len(tensors))
        self.elements.append(sum(one.numel() for one in tensors))
        self.objects.append(len(alive))
        if sys.platform == "linux":
            self.resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)


def growth(values):
    """From the first to the last quarter of the second half; the least of a quarter, so that no passing peak counts."""
    second = values[len(values) // 2 :]
    quarter = len(second) // 2
    return min(second[quarter:]) - min(second[:quarter])


class Leaking(TrainerCallback):
    """Keeps a tensor a step, as a list that nobody empties does."""

    kept: list[torch.Tensor] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.kept.append(torch.zeros(100))


@pytest.mark.parametrize("leaks", [False, True], ids=["as it is", "with a leak"])
def test_memory_is_flat_over_two_hundred_steps(tmp_path, leaks):
    """The second case shows that a leak of one small tensor a step would be seen."""
    steps = STEPS // 4 if leaks else STEPS
    watch = Watch(steps // SAMPLES)
    ppo = trainer(
        tmp_path,
        max_steps=steps,
        max_completion_length=4,
        per_device_train_batch_size=2,
        num_ppo_epochs=1,
        logging_steps=steps,
        callbacks=[watch, *([Leaking()] if leaks else [])],
    )
    gc.freeze()  # what is here already is not looked at again and again
    try:
        ppo.train()
    finally:
        gc.unfreeze()
        Leaking.kept.clear()
    assert len(watch.tensors) == SAMPLES
    if leaks:
        assert growth(watch.tensors) >= 2 * watch.every
        return
    assert growth(watch.tensors) <= 0
    assert growth(watch.elements) <= 0
    # Caches of libraries may take in a few more things; one object a step would be 50.
    assert growth(watch.objects) < 50
    assert not watch.resident or growth(watch.resident) < 8 * 2**20
