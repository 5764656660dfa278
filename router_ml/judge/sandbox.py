"""Run a model's program in a limited process.

What it protects from, on Linux with util-linux and namespaces allowed (:func:`isolation` says ``"namespaces"``): the
program has no network device, not even loopback; it and all that it starts die with it, in a PID namespace of their
own, where they don't see other processes (nor, so, the keys in the environment of ours). Everywhere: limits on CPU
time, address space, the size of a file, open files and processes; a wall clock; an empty environment, ``python -I``, a
temporary working folder that is removed; output thrown away; no new privileges. Where we run as root, the program runs
under a user number that nobody else has, since no limit holds root.

What it does not protect from: the program reads every file that its user may read (as root does, if the interpreter
lies where only root reads), writes where that user may write, and may talk to Unix sockets that are open to it. It can
fill memory (`processes` times `memory_mb`) and the disk (files, each within its limit). Bugs in the kernel are open to
it. Where namespaces aren't allowed (``"audit hook"``: most containers, macOS), an audit hook refuses sockets other than
Unix ones, new processes, signals, and a look into /proc; PEP 578 says that such a hook keeps honest code honest and is
no sandbox. And it shares an interpreter with its tests, so that a program that sets out to can forge their result.

So this is for answers of models that you chose. For anything worse, run the whole judge in a virtual machine of its
own.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Gt, Le

from router_ml.errors import RouterError
from router_ml.judge.settings import STRICT

__all__ = ["Limits", "Outcome", "isolation", "run_tests"]

_RUN = (sys.executable, "-I", "-B", str(Path(__file__).with_name("sandbox_runner.py")))
_REPLY_BYTES = 65_536
_TRIAL_S = 30.0

_NAMESPACES = ("--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_USER = ("--reuid={user}", "--regid={user}", "--clear-groups", "--no-new-privs")
_CAPABILITY_SETS = ("inh-caps", "bounding-set", "ambient-caps")
_FIRST_USER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes
    ----------
    wall_s, cpu_s : float, int
        Seconds of time, and of CPU time in each process.
    memory_mb, file_mb : int
        Address space of each process, and size of each file, in MiB.
    processes : int
        Processes and threads beyond its own; 0 where namespaces aren't allowed.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    wall_s: Annotated[float, Gt(0), Le(3600)] = 10.0
    cpu_s: Annotated[int, Gt(0), Le(3600)] = 5
    memory_mb: Annotated[int, Gt(15)] = 1024
    file_mb: Annotated[int, Gt(0)] = 16
    processes: Annotated[int, Gt(0), Le(4096)] = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the tests went.

    Attributes
    ----------
    n_passed, n_tests : int
        `n_tests` is 0 where there were none to run, or it never came to them.
    error : str
        The first thing that went wrong; empty where nothing did.
    tests_usable : bool
        False where the tests aren't Python.
    """

    n_passed: int
    n_tests: int
    error: str = ""
    tests_usable: bool = True


@cache
def isolation() -> str:
    """``"namespaces"`` where a program gets namespaces of its own, else ``"audit hook"``; found out once."""
    return "namespaces" if "unshare" in _prefix() else "audit hook"


@cache
def _prefix() -> tuple[str, ...]:
    """The command that a program is started under: the first of the candidates under which the runner starts.

    Raises
    ------
    RouterError
        If we are root and can't give that up.
    """
    for command in _candidates():
        try:
            tried = subprocess.run(
                [*_under(command, _FIRST_USER), *_RUN],
                capture_output=True,
                timeout=_TRIAL_S,
                cwd="/",
                env=_environment("/"),
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        # Python that can't read its own library takes another that it finds.
        if tried.stdout.decode(errors="replace").strip() == os.__file__:
            return command
    raise RouterError(
        "The judge runs as root, and can't run programs as another user here (that takes setpriv of util-linux and the right to use it). "
        "Run the judge as an ordinary user."
    )


def _candidates() -> list[tuple[str, ...]]:
    if not _is_root():
        return [("unshare", "--user", "--map-current-user", *_NAMESPACES, "--"), ()]
    plain = ("setpriv", *_AS_USER, "--inh-caps=-all", "--bounding-set=-all", "--")
    # For an interpreter below /root, say: another user that may read what root may, and nothing else that root may.
    reading = ("setpriv", *_AS_USER, *(f"--{s}=-all,+dac_read_search" for s in _CAPABILITY_SETS), "--")
    spaces = ("unshare", *_NAMESPACES, "--")
    return [(*spaces, *plain), (*spaces, *reading), plain, reading]


def _under(command: Sequence[str], user: int) -> list[str]:
    return [part.format(user=user) for part in command]


def _is_root() -> bool:
    return os.geteuid() == 0


def run_tests(programs: Sequence[str], tests: str, limits: Limits = Limits()) -> Outcome:
    """Run programs one after the other, then their tests, in a limited process; see this module for what that is worth.

    Parameters
    ----------
    programs : sequence of str
        Python source, run in one module; the tests are run if at least one of them works.
    tests : str
        Python source: statements, of which each ``assert`` and each bare call on the top level is a test, as is each
        ``test_...`` function and each method of a ``unittest.TestCase``.
    limits : Limits

    Raises
    ------
    RouterError
        If processes can't be limited on this platform, or we are root and can't give that up.
    """
    if os.name != "posix":
        raise RouterError(f"Programs can't be limited on {os.name!r}; judge code on Linux or macOS.")
    nonce = secrets.token_hex(16)
    job = {
        "programs": list(programs),
        "tests": tests,
        "nonce": nonce,
        "isolated": isolation() == "namespaces",
        **asdict(limits),
    }
    with tempfile.TemporaryDirectory(prefix="router-ml-judge-", ignore_cleanup_errors=True) as folder:
        # A number of its own for each run: limits on processes count by user, and runs can't reach each other.
        user = _FIRST_USER + secrets.randbelow(_FIRST_USER)
        if _is_root():
            os.chown(folder, user, user)
        reply = _run(_under(_prefix(), user), folder, job, limits.wall_s)
    return reply if isinstance(reply, Outcome) else _outcome(reply, nonce)


def _outcome(reply: Mapping[str, Any], nonce: str) -> Outcome:
    """What a reply says, as far as it is one of ours: the program may have written it."""
    n_passed, n_tests, error = (reply.get(name) for name in ("n_passed", "n_tests", "error"))
    if reply.get("nonce") != nonce or type(n_passed) is not int or type(n_tests) is not int:
        return Outcome(0, 0, "ended before its tests did")
    if not 0 <= n_passed <= n_tests:
        return Outcome(0, 0, "replied with nonsense")
    return Outcome(n_passed, n_tests, str(error)[:500], reply.get("tests_usable") is True)


def _run(command: Sequence[str], folder: str, job: Mapping[str, Any], wall_s: float) -> dict[str, Any] | Outcome:
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        process = subprocess.Popen(
            [*command, *_RUN, str(write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(folder),
            pass_fds=[write],
            start_new_session=True,
        )
        try:
            process.communicate(json.dumps(job).encode(), timeout=wall_s)
        except subprocess.TimeoutExpired:
            return Outcome(0, 0, f"ran longer than {wall_s:g} s")
        finally:
            _kill(process)
        return _reply(read, process.returncode)
    finally:
        os.close(read)
        os.close(write)


def _environment(folder: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder, "OPENBLAS_NUM_THREADS": "1"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        # The leader may be gone while others of its group aren't; its number stays taken as long as one is left.
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _reply(read: int, returncode: int) -> dict[str, Any] | Outcome:
    try:
        # What the program left open may keep the pipe from ending, so that only what is there is read.
        reply = json.loads(os.read(read, _REPLY_BYTES))
    except (BlockingIOError, ValueError, RecursionError):
        how = f"was killed by signal {-returncode}" if returncode < 0 else f"ended with exit code {returncode}"
        return Outcome(0, 0, f"{how} before its tests did")
    return reply if isinstance(reply, dict) else Outcome(0, 0, "ended before its tests did")
