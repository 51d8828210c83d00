"""Logs of runs that were never run, and what the health rules say over them."""

from trl_kochat.callbacks.health_rules import RULES, Log


STEPS = 60


def replay(entries, **facts) -> dict[str, str]:
    """What the rules say over a run, by code."""
    log = Log(**{"max_steps": STEPS} | facts)
    said = {}
    for entry in entries:
        log.add(entry)
        for code, rule in RULES.items():
            message = None if code in log.fired else rule(log)
            if message is not None:
                log.fired.add(code)
                said[code] = message
    return said


def log_of(entries, **facts) -> Log:
    log = Log(**{"max_steps": STEPS} | facts)
    for entry in entries:
        log.add(entry)
    return log


def logged(**curves):
    """One entry for every second step; each curve is a function of the share of the run that is over."""
    return [{"step": step, **{k: f(step / STEPS) for k, f in curves.items()}} for step in range(0, STEPS + 1, 2)]


def halves(number=12, **levels):
    """So many entries over the run; each key has its first level in the first half of them and then its second."""
    return [
        {"step": STEPS * i // (number - 1), **{k: level[2 * i >= number] for k, level in levels.items()}}
        for i in range(number)
    ]


def rounds(times=(0, 0.25, 0.5, 0.75, 1), **curves):
    """The rounds of the samples callback: five in a run."""
    keys = {"repetition": lambda t: 0.02, "hanja": lambda t: 0.0, "latin": lambda t: 0.01}
    keys |= {"eos_rate": lambda t: 1.0, "mean_length": lambda t: 20.0}
    keys |= {"distinct": lambda t: 0.95, "most_common": lambda t: 0.08, "own_answer": lambda t: 0.6} | curves
    return [{"step": int(t * STEPS), **{f"samples/{k}": f(t) for k, f in keys.items()}} for t in times]


def merged(*logs):
    return sorted((entry for log in logs for entry in log), key=lambda entry: entry["step"])


def constant(value):
    return lambda t: value


def ramp(start, end):
    return lambda t: start + (end - start) * t


def then(start, end, at=0.5):
    """`start` until that share of the run is over, then `end`."""
    return lambda t: start if t < at else end
