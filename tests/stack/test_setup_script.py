"""scripts/setup.sh tells a person what it does, and what to do when it cannot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from stack.process import REPOSITORY


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A directory, first on PATH, for commands that behave as the test needs it."""
    directory = tmp_path / "commands"
    directory.mkdir()
    return directory


def stub(commands: Path, name: str, script: str) -> None:
    file = commands / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def bash(script: str, commands: Path, state: Path) -> subprocess.CompletedProcess[str]:
    """Run `script` after sourcing setup.sh, with its state directory elsewhere."""
    state.mkdir(exist_ok=True)
    prelude = (
        "set -euo pipefail; source scripts/setup.sh;"
        f" STATE={state}; SETUP_LOG=$STATE/setup.log; VENV={state}/venv; POLICY={state}/policy;"
    )
    return subprocess.run(
        ["bash", "-c", prelude + script],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_without_root_the_missing_packages_and_the_command_are_named(
    commands: Path, tmp_path: Path
) -> None:
    """Nothing is tried that cannot work; the person can copy one line."""
    stub(commands, "dpkg-query", '[ "$4" = present ] && echo -n installed')
    stub(commands, "id", "echo 1000")
    stub(commands, "sudo", "exit 1")
    stub(commands, "apt-get", "echo apt-get must not run >&2; exit 9")
    done = bash("install_debian present absent missing", commands, tmp_path / "state")
    assert done.returncode == 1
    assert "apt-get update && apt-get install --no-install-recommends absent missing" in done.stderr
    assert "present" not in done.stderr
    assert "must not run" not in done.stderr


def test_root_installs_only_what_is_missing(commands: Path, tmp_path: Path) -> None:
    """Lists first, no questions, no recommended packages."""
    stub(commands, "dpkg-query", '[ "$4" = present ] && echo -n installed')
    stub(commands, "id", "echo 0")
    stub(commands, "apt-get", f'echo "$DEBIAN_FRONTEND $@" >>{tmp_path}/calls')
    done = bash("install_debian present absent", commands, tmp_path / "state")
    assert done.returncode == 0, done.stderr
    update, install = (tmp_path / "calls").read_text().splitlines()
    assert update == "noninteractive -q update"
    assert "--no-install-recommends" in install
    assert install.endswith(" install absent")


def test_no_package_starts_its_service_while_it_is_installed(
    commands: Path, tmp_path: Path
) -> None:
    """A policy denies it, for the time of the installation only, also when that fails."""
    policy = tmp_path / "state" / "policy"
    stub(commands, "dpkg-query", "true")
    stub(commands, "id", "echo 0")
    stub(
        commands,
        "apt-get",
        f'case "$*" in *install*) {policy} redis start; echo $? >>{tmp_path}/answers; exit 7; esac',
    )
    done = bash("install_debian absent || echo failed with $?", commands, tmp_path / "state")
    assert done.stdout == "failed with 7\n"
    assert (tmp_path / "answers").read_text() == "101\n"
    assert not policy.exists()


def test_the_policy_of_a_killed_installation_is_removed_by_the_next(
    commands: Path, tmp_path: Path
) -> None:
    """SIGKILL leaves the policy behind; it is known as ours."""
    policy = tmp_path / "state" / "policy"
    stub(commands, "dpkg-query", "true")
    stub(commands, "id", "echo 0")
    stub(commands, "apt-get", 'case "$*" in *install*) kill -9 $PPID; esac')
    bash("install_debian absent", commands, tmp_path / "state")
    assert policy.exists()
    stub(commands, "apt-get", "true")
    bash("install_debian absent", commands, tmp_path / "state")
    assert not policy.exists()


def test_a_policy_of_the_machine_stays_as_it_is(commands: Path, tmp_path: Path) -> None:
    """Whoever put it there still needs it."""
    policy = tmp_path / "state" / "policy"
    policy.parent.mkdir()
    policy.write_text("#!/bin/sh\nexit 0\n")
    stub(commands, "dpkg-query", "true")
    stub(commands, "id", "echo 0")
    stub(commands, "apt-get", "true")
    done = bash("install_debian absent", commands, tmp_path / "state")
    assert done.returncode == 0, done.stderr
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_failed_step_shows_its_own_output_and_status(commands: Path, tmp_path: Path) -> None:
    """Not the output of the steps before it, and where the whole log is."""
    done = bash(
        'step "first" -- echo early; step "second" -- sh -c "echo the mirror is down; exit 7"',
        commands,
        tmp_path / "state",
    )
    assert done.returncode == 7
    assert "first … done" in done.stderr
    assert "second … failed (status 7)\nthe mirror is down" in done.stderr
    assert "early" not in done.stderr
    assert str(tmp_path / "state" / "setup.log") in done.stderr


def test_python_packages_are_installed_once_per_state_of_the_project(
    commands: Path, tmp_path: Path
) -> None:
    """A changed constraint makes the environment anew; nothing else does."""
    state = tmp_path / "state"
    fake = commands / "fake-python"
    # Stands for `python -m venv DIR` and for `python -m pip install`.
    stub(
        commands,
        "fake-python",
        f'[ "$2" = venv ] && mkdir -p "$4/bin" && cp {fake} "$4/bin/python"; [ "$1" = -V ] || '
        f'echo "$2" >>{tmp_path}/calls',
    )
    run = f"PYTHON={fake}; install_python; "
    done = bash(run + run + "fingerprint() { echo changed; }; " + run + run, commands, state)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().split() == ["venv", "pip", "venv", "pip"]


def test_the_site_configured_in_the_shell_stays_outside(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test run must not work on somebody's MongoDB."""
    monkeypatch.setenv("BRIDGE_MONGODB_URL", "mongodb://production/")
    done = bash('echo "[${BRIDGE_MONGODB_URL-unset}]"', commands, tmp_path / "state")
    assert done.stdout == "[unset]\n"


def test_an_environment_that_is_activated_is_not_made_from_itself(
    commands: Path, tmp_path: Path
) -> None:
    """Else its fingerprint would be another one, and it would be emptied under who uses it."""
    state = tmp_path / "state"
    (state / "venv" / "bin").mkdir(parents=True)
    stub(state / "venv" / "bin", "python3", "exit 0")
    stub(commands, "python3", "exit 0")
    script = (
        'can_make_venvs() { [ "$1" != /usr/bin/python3 ]; }; PATH=$VENV/bin:$PATH; find_python; '
        'echo "$PYTHON"'
    )
    assert bash(script, commands, state).stdout == f"{commands}/python3\n"


def test_debians_own_python_comes_first(commands: Path, tmp_path: Path) -> None:
    stub(commands, "python3", "exit 0")
    script = 'can_make_venvs() { true; }; find_python; echo "$PYTHON"'
    assert bash(script, commands, tmp_path / "state").stdout == "/usr/bin/python3\n"
