"""Running models' programs: what passes, and what hostile ones can't do."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from router_ml.errors import InputError
from router_ml.judge import Item, Means, build_grader
from router_ml.judge.graders.code import programs
from router_ml.judge.sandbox import Limits, Outcome, isolation, run_tests

# The clock is generous, as the machine may be busy; what has to run into it says so.
LIMITS = Limits(wall_s=60, cpu_s=1, memory_mb=256, file_mb=1)
ADD = "def add(a, b):\n    return a + b\n"


def outcome(source: str, tests: str = "assert True", limits: Limits = LIMITS) -> Outcome:
    return run_tests([source], tests, limits)


def grade(answer: str, tests: str, **settings: object) -> float | None:
    grader = build_grader("python_tests", settings)
    (given,) = grader.grade_all([Item("q", "m", answer, tests)], Means(allow_code_execution=True))
    return given.quality


def test_program_passes_its_asserts() -> None:
    assert grade(f"Sure:\n```python\n{ADD}```\n", "assert add(1, 2) == 3\nassert add(0, 0) == 0") == 1


def test_one_failed_test_fails_all_unless_parts_count() -> None:
    tests = "assert add(1, 2) == 3\nassert add(1, 1) == 3"
    assert [grade(ADD, tests), grade(ADD, tests, partial=True)] == [0, 0.5]


def test_test_functions_cases_and_checks_are_tests() -> None:
    tests = (
        "import unittest\n"
        "def check(f):\n    assert f(1, 1) == 2\n"
        "check(add)\n"
        "def test_zero():\n    assert add(0, 0) == 0\n"
        "class Adds(unittest.TestCase):\n"
        "    def test_right(self):\n        self.assertEqual(add(2, 2), 4)\n"
        "    def test_wrong(self):\n        self.assertEqual(add(2, 2), 5)\n"
    )
    ran = outcome(ADD, tests)
    assert (ran.n_passed, ran.n_tests) == (3, 4)


def test_dataclasses_and_classes_work_in_a_program() -> None:
    assert (
        outcome(
            "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int' = 1\n", "assert P().x == 1"
        ).n_passed
        == 1
    )


def test_code_must_be_allowed() -> None:
    with pytest.raises(InputError, match="allow_code_execution: true"):
        list(build_grader("python_tests", {}).grade_all([Item("q", "m", ADD, "assert 1")], Means()))


@pytest.mark.parametrize("tests", ["", "x = 1", "def broken("])
def test_reference_without_a_test_is_not_judged(tests: str) -> None:
    assert grade(ADD, tests) is None


def test_blocks_in_other_languages_are_left_out() -> None:
    answer = "Install:\n```sh\npip install x\n```\nthen\n```py\na = 1\n```\nand\n```python\nb = 2\n```\nwhich prints\n```\n3\n```"
    assert programs(answer) == ["a = 1", "b = 2"]


@pytest.mark.parametrize(
    "answer",
    [
        "a = 1",
        "```\na = 1\n```",
        "```python\na = 1",
        "1. So:\n   ```python\n   a = 1\n   ```",
        "[PYTHON]\na = 1\n[/PYTHON]\n[TESTS]\n# none",
    ],
)
def test_program_may_be_the_answer_or_its_block_marked_or_not(answer: str) -> None:
    assert programs(answer) == ["a = 1"]


def test_example_that_fails_is_passed_over() -> None:
    answer = f"```python\n{ADD}```\nFor example:\n```python\n>>> add(1, 2)\n3\n```\nor\n```python\nadd(1, 'a')\n```"
    assert grade(answer, "assert add(1, 2) == 3") == 1


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "import os\nos.write(3, b'{}')\nos._exit(0)",
        "import ctypes\nctypes.string_at(0)",
        "def f():\n    f()\nf()",
        "(" * 100_000,
        "x = '\ud800'",
        "\0",
        "raise KeyboardInterrupt",
        "class E(Exception):\n    def __str__(self):\n        raise self\nraise E",
    ],
)
def test_program_that_ends_early_or_breaks_has_not_passed(source: str) -> None:
    assert outcome(source).n_passed == 0


@pytest.mark.parametrize(
    "forged", [{"n_passed": 9, "n_tests": 1}, {"n_passed": "1", "n_tests": 1}, {}, {"n_passed": -1}]
)
def test_forged_reply_that_makes_no_sense_is_no_pass(forged: dict[str, object]) -> None:
    # A program that finds the code word can forge a reply; it can't break the judge.
    source = (
        "import json, os, sys\n"
        "frame = sys._getframe()\n"
        "while 'job' not in frame.f_locals:\n    frame = frame.f_back\n"
        f"reply = {{**{forged!r}, 'nonce': frame.f_locals['job']['nonce']}}\n"
        "os.write(frame.f_locals['reply_to'], json.dumps(reply).encode())\n"
        "os._exit(0)\n"
    )
    assert outcome(source).n_passed == 0


def test_infinite_loop_is_stopped_by_the_limit_of_cpu_time() -> None:
    stopped = outcome("while True: pass")
    assert (stopped.n_passed, "longer than" in stopped.error) == (0, False)


def test_program_that_sleeps_is_stopped_by_the_clock() -> None:
    assert "longer than 2 s" in outcome("import time\ntime.sleep(3600)", limits=Limits(wall_s=2)).error


def test_memory_is_limited() -> None:
    assert "MemoryError" in outcome("x = bytearray(2**30)").error


def test_limits_cannot_be_raised() -> None:
    source = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nx = bytearray(2**30)"
    assert outcome(source).n_passed == 0


def test_files_are_limited() -> None:
    assert outcome("with open('big', 'wb') as f:\n    f.write(b'x' * 2**22)").n_passed == 0


def test_huge_output_is_thrown_away() -> None:
    assert outcome("import os\nfor _ in range(100):\n    os.write(1, b'x' * 2**20)").n_passed == 1


def test_processes_are_limited() -> None:
    # Each child sleeps, so that a limit that doesn't hold shows as 500 processes and not as a bomb.
    source = (
        "import os, time\nfor _ in range(500):\n    if os.fork() == 0:\n        time.sleep(600)\n        os._exit(0)\n"
    )
    assert outcome(source).n_passed == 0


def test_nothing_of_a_program_outlives_it() -> None:
    if isolation() != "namespaces":
        pytest.skip("Namespaces aren't allowed here; without them starting processes is refused.")
    mark = secrets.token_hex(16)
    source = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', {mark!r}], start_new_session=True)\n"
    )
    assert outcome(source).n_passed == 1
    assert mark not in "".join(map(_command_line, Path("/proc").glob("[0-9]*")))


def _command_line(process: Path) -> str:
    try:
        return process.joinpath("cmdline").read_text(errors="replace")
    except OSError:
        return ""  # it has ended


def test_network_is_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        source = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=5)"
        assert outcome(source).n_passed == 0
        with pytest.raises(TimeoutError):
            listening.accept()


def test_our_environment_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    tests = "import os\nassert 'OPENAI_API_KEY' not in os.environ\n"
    assert outcome("", tests).n_passed == 1


def test_parents_environment_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    if isolation() != "namespaces":
        pytest.skip("Namespaces aren't allowed here, so that other processes of the user can be seen.")
    tests = "import glob\nassert b'sandbox_runner' in open('/proc/self/cmdline', 'rb').read()\nassert len(glob.glob('/proc/[0-9]*')) == 1\n"
    assert outcome("", tests).n_passed == 2


def test_working_folder_is_removed() -> None:
    made = outcome("open('left', 'w').write('x')", "import os\nassert False, os.getcwd()").error
    assert made.startswith("AssertionError: /")
    assert not Path(made.removeprefix("AssertionError: ")).exists()


def test_program_does_not_run_as_root() -> None:
    assert outcome("", "import os\nassert os.geteuid() != 0").n_passed == 1


def test_without_namespaces_a_hook_refuses_network_and_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from router_ml.judge import sandbox

    with_namespaces = sandbox._prefix()
    alone = with_namespaces[with_namespaces.index("setpriv") :] if "setpriv" in with_namespaces else ()
    monkeypatch.setattr(sandbox, "_prefix", lambda: alone)
    monkeypatch.setattr(sandbox, "isolation", lambda: "audit hook")
    tests = (
        "import socket, subprocess, os\n"
        "def refused(f):\n    try:\n        f()\n    except (PermissionError, BlockingIOError):\n        return True\n"
        "assert refused(lambda: socket.socket())\n"
        "assert refused(lambda: subprocess.run(['true']))\n"
        "assert refused(os.fork)\n"
        "assert refused(lambda: os.system('true'))\n"
        "assert refused(lambda: os.kill(os.getppid(), 0))\n"
        "assert refused(lambda: open(f'/proc/{os.getppid()}/environ'))\n"
    )
    assert outcome("", tests) == Outcome(6, 6)
