"""The process in which a model's program runs, started by :mod:`router_ml.judge.sandbox`.

It takes a job as JSON on standard input, limits itself, runs the program, then its tests, and writes what came of it to
the file descriptor that its argument names. It imports nothing of ours.
"""

from __future__ import annotations

import ast
import io
import json
import os
import resource
import sys
import types
import unittest
from typing import Any

__all__: list[str] = []

_NO_NEW_PRIVS = 38  # PR_SET_NO_NEW_PRIVS of linux/prctl.h
_AF_UNIX = 1
_MIB = 1 << 20


def main() -> None:
    """Read the job, limit this process, run it, reply; without an argument only say where the library is, as a trial."""
    if len(sys.argv) < 2:
        sys.stdout.write(os.__file__)
        return
    reply_to = int(sys.argv[1])
    job = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _limit(job)
    reply = {"nonce": job["nonce"], "n_passed": 0, "n_tests": 0, "tests_usable": True}
    try:
        tests = ast.parse(job["tests"], "tests.py")
    except BaseException as exc:
        _reply(reply_to, {**reply, "tests_usable": False, "error": _said(exc)})
        return
    n_passed, n_tests, error = _run(job["programs"], tests)
    _reply(reply_to, {**reply, "n_passed": n_passed, "n_tests": n_tests, "error": error})


def _reply(reply_to: int, reply: dict[str, Any]) -> None:
    os.write(reply_to, json.dumps(reply).encode())
    # No destructor or exit handler of the program's gets to run, nor a thread that it left.
    os._exit(0)


def _limit(job: dict[str, Any]) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    processes = _processes_of(os.geteuid()) + job["processes"] if job["isolated"] else 0
    for limit, value in (
        (resource.RLIMIT_CPU, job["cpu_s"]),
        (resource.RLIMIT_AS, job["memory_mb"] * _MIB),
        (resource.RLIMIT_FSIZE, job["file_mb"] * _MIB),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        try:
            resource.setrlimit(limit, (value, value))
        except (ValueError, OSError):
            if limit != resource.RLIMIT_AS or sys.platform == "linux":  # macOS knows no limit of address space
                raise
    if not job["isolated"]:
        sys.addaudithook(_refuse)


def _processes_of(uid: int) -> int:
    """Processes and threads of a user, which the limit on them counts; those of other namespaces aren't seen."""
    n = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                n += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue  # it has ended
    return n


_REFUSED = frozenset(
    [
        "socket.connect",
        "socket.bind",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.kill",
        "os.killpg",
        "ctypes.dlopen",
    ]
)


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    inet = event == "socket.__new__" and args[1] != _AF_UNIX
    # Environments of other processes, keys in them, stand there.
    proc = event == "open" and isinstance(args[0], str) and args[0].startswith("/proc/")
    if event in _REFUSED or inet or proc:
        raise PermissionError(f"{event} isn't allowed to a program that is being judged")


def _run(programs: list[str], tests: ast.Module) -> tuple[int, int, str]:
    # A module that can be looked up, as dataclasses and pickle do.
    module = sys.modules["answer"] = types.ModuleType("answer")
    namespace = vars(module)
    errors = []
    for program in programs:
        try:
            exec(compile(program, "answer.py", "exec"), namespace)
        except BaseException as exc:  # SystemExit too: a program that leaves hasn't worked
            errors.append(_said(exc))
    if len(errors) == len(programs):
        return 0, 0, f"the program: {errors[0] if errors else 'there is none'}"
    outcomes: list[str] = []
    try:
        for statement in tests.body:
            code = compile(ast.Module([statement], []), "tests.py", "exec")
            is_test = isinstance(statement, ast.Assert) or (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            )
            if is_test:
                outcomes.append(_outcome(code, namespace))
            else:
                exec(code, namespace)
    except BaseException as exc:
        return 0, 0, f"the tests: {_said(exc)}"
    outcomes += _functions(tests, namespace)
    failed = [o for o in outcomes if o]
    return len(outcomes) - len(failed), len(outcomes), failed[0] if failed else ""


def _outcome(code: Any, namespace: dict[str, Any]) -> str:
    try:
        exec(code, namespace)
    except BaseException as exc:
        return _said(exc)
    return ""


def _functions(tests: ast.Module, namespace: dict[str, Any]) -> list[str]:
    """Outcomes of the test functions and TestCases that the tests define; not of what the program calls so."""
    outcomes = []
    for node in tests.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            outcomes.append(_outcome(compile(f"{node.name}()", "tests.py", "eval"), namespace))
        elif isinstance(node, ast.ClassDef):
            case = namespace.get(node.name)
            if isinstance(case, type) and issubclass(case, unittest.TestCase):
                outcomes += _case(case)
    return outcomes


def _case(case: type[unittest.TestCase]) -> list[str]:
    outcomes = []
    for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
        result = unittest.TextTestRunner(stream=io.StringIO()).run(test)
        faults = [*result.failures, *result.errors]
        outcomes.append(faults[0][1][-300:] if faults else "")
    return outcomes


def _said(exc: BaseException) -> str:
    try:
        return f"{type(exc).__name__}: {exc}"[:300]
    except BaseException:  # the program's own __str__
        return type(exc).__name__


if __name__ == "__main__":
    main()
