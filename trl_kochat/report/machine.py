"""What a run ran on: command, versions, device, memory."""

import re
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata

import torch


PACKAGES = ("trl_kochat", "trl", "transformers", "peft", "datasets", "accelerate", "bitsandbytes", "torch")

# A flag that ends in one of these carries a credential (`--hub_token`), which does not belong on a page to share.
SECRET_ENDINGS = ("token", "key", "password", "secret")


def installed_versions() -> dict[str, str]:
    """Python and the packages that decide what training does; one that is not installed is left out."""
    versions = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # bitsandbytes on macOS
            continue
    return versions


def command_line(argv: Sequence[str] | None = None) -> str:
    """The command as typed, with the values of credentials hidden.

    >>> command_line(["recipes/dpo_orca.py", "--hub_token", "hf_abc", "--preset=cpu"])
    'python recipes/dpo_orca.py --hub_token *** --preset=cpu'
    """
    shown = ["python"]
    hide_next = False
    for argument in sys.argv if argv is None else argv:
        flag, equals, _ = argument.partition("=")
        secret = flag.startswith("-") and flag.lower().endswith(SECRET_ENDINGS)
        if hide_next or (secret and equals):
            shown.append(f"{flag}=***" if secret else "***")
        else:
            shown.append(shlex.quote(argument))
        hide_next = secret and not equals
    return " ".join(shown)


# The folders of an absolute path, where a word or what follows a quotation mark or an equals sign begins with one.
_FOLDERS = re.compile(r"""(^|[\s='"(])(?:/|[A-Za-z]:[\\/])(?:[^\s'"=]*[\\/])?""")


def without_folders(text: str) -> str:
    """Text for a page that others read: of each absolute path only the last part.

    >>> without_folders("python /home/me/recipes/sft.py --output_dir=/tmp/runs/a runs/b")
    'python sft.py --output_dir=a runs/b'
    """
    return _FOLDERS.sub(r"\1", text)


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def peak_memory() -> dict[str, float | None]:
    """MiB: the most main memory this process held since it was started, and the most a CUDA device held for tensors
    since training began; `None` where there is no such device or nobody tells (Windows).
    """
    host = None
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        host = peak / 2**20 if sys.platform == "darwin" else peak / 2**10
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    sizes = {"peak_host_memory_mib": host, "peak_device_memory_mib": device}
    return {name: None if size is None else round(size, 1) for name, size in sizes.items()}
