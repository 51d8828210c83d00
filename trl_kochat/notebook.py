"""What the install cells of the notebooks do after pip, so that the runtime they leave behind works.

Loads nothing of the training stack: what is in memory already may be what was replaced.
"""

import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata

from .versions import check_torchao, old_torchao


def installed_packages() -> dict[str, str]:
    """Package -> version; of two in different folders the one that is imported, whose folder comes first."""
    return {found.name: found.version for found in reversed([*metadata.distributions()])}


def settle(before: Mapping[str, str]) -> None:
    """Say what the installation replaced, remove a torchao from Colab that peft does not bear, restart where needed.

    Colab's torchao is removed and not raised: each release of it is built for one release of torch, which is not ours
    to change there, and beside another it warns or aborts. Nothing here uses it.

    A module in memory stays what it was when its package is replaced, and the next import may fail (pyarrow's does): the
    runtime has to be restarted then. On Colab it is.

    Args:
        before (`dict[str, str]`): [`installed_packages`] before the installation.

    Raises:
        SystemExit: The kernel restarts, or elsewhere than on Colab is to be restarted by hand, as the message says in
            Korean and English.
        ValueError: A torchao is installed that is too old for peft, elsewhere than on Colab.
    """
    on_colab = "google.colab" in sys.modules
    after = installed_packages()
    changed = {name: after[name] for name in before.keys() & after.keys() if before[name] != after[name]}
    removed = ["torchao"] if on_colab and old_torchao() is not None else []
    loaded = ", ".join(sorted(name for name in (*changed, *removed) if _is_loaded(name)))

    if removed:
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *removed], check=True)
    check_torchao()
    told = [f"{name} {before[name]} -> {changed[name]}" for name in sorted(changed)]
    if told or removed:
        print("바뀐 패키지 (changed):", ", ".join([*told, *(f"{name} 제거 (removed)" for name in removed)]))
    if loaded:
        if on_colab:
            _restart_kernel()
        # An error also keeps the cells after this one from running with what is in memory.
        raise SystemExit(_please_restart(loaded, restarting=on_colab))


def _is_loaded(package: str) -> bool:
    """Whether a module of that package is in memory."""
    tops = {path.parts[0].partition(".")[0] for path in metadata.files(package) or ()}
    return not tops.isdisjoint(sys.modules)


def _restart_kernel() -> None:
    from IPython import get_ipython

    get_ipython().kernel.do_shutdown(restart=True)  # as soon as the cell has ended


def _please_restart(loaded: str, *, restarting: bool) -> str:
    """A Korean and an English line."""
    korean = (
        "런타임이 다시 시작됩니다(세션이 다운되었다는 알림은 정상입니다)." if restarting else "커널을 다시 시작하세요."
    )
    english = (
        "The runtime restarts (a notice that the session crashed is normal)." if restarting else "Restart the kernel."
    )
    return (
        f"이미 불러온 {loaded} 패키지가 바뀌었습니다. {korean} 그다음 첫 셀부터 다시 실행하세요.\n"
        f"{loaded} changed after it was loaded. {english} Then run again from the first cell."
    )
