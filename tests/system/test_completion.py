# SPDX-License-Identifier: GPL-3.0-or-later
"""What bash and zsh offer at a TAB, behind swiftdrop and swiftq."""

import fcntl
import os
import pty
import re
import subprocess
import termios

import pytest

from conftest import TREE
from swiftq_box import FOLDERS, run, wait_for

COMMANDS = ("list", "status", "find", "show", "take", "finish", "retry",
            "run", "recover", "purge")
# What each shell is told first: what is offered goes into the file $OFFERED.
SETUP = {
    "bash": """
        source completions/swiftdrop.bash
        watch() {
            $1 "${@:2}"
            printf '%s\\n' "${COMPREPLY[@]}" >> $OFFERED
        }
        _of_swiftdrop() { watch _swiftdrop "$@"; }
        _of_swiftq() { watch _swiftq "$@"; }
        complete -F _of_swiftdrop swiftdrop
        complete -F _of_swiftq swiftq
        """,
    "zsh": """
        fpath=($PWD/completions $fpath)
        autoload -Uz compinit
        compinit -D -u
        compadd() {
            if [[ " $* " == *' -'[OAD]' '* ]]; then
                builtin compadd "$@"
                return
            fi
            local -a hits
            builtin compadd -O hits "$@"
            print -rl -- $hits >> $OFFERED
            builtin compadd "$@"
        }
        LISTMAX=10000
        """,
}
ARGV = {"bash": ["bash", "--norc", "--noprofile", "-i"],
        "zsh": ["zsh", "-f", "-i"]}


class Shell:
    """One that thinks that a person sits before it."""

    def __init__(self, name, folder):
        self.offered = folder / "offered"
        self.offered.touch()
        ours, theirs = pty.openpty()

        def before_exec():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self._terminal = os.fdopen(ours, "w+b", buffering=0)
        self._process = subprocess.Popen(
            ARGV[name], stdin=theirs, stdout=theirs, stderr=theirs, cwd=TREE,
            start_new_session=True, preexec_fn=before_exec,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": "/",
                 "OFFERED": str(self.offered)})
        os.close(theirs)
        os.set_blocking(ours, False)
        setup = folder / "setup"
        setup.write_text(SETUP[name])
        self._type(f"source {setup}\n")
        self._await_end()

    def offers(self, line):
        """What is offered at a TAB behind the line."""
        self.offered.write_text("")
        self._type(line + "\t")
        # Ctrl-A, Ctrl-K: the line goes, whatever has been made of it.
        self._type("\x01\x0b")
        lines = self._await_end()
        return {word.strip() for word in lines if word.strip()}

    def close(self):
        self._process.kill()
        self._process.wait()
        self._terminal.close()

    def _type(self, text):
        self._terminal.write(text.encode())

    def _await_end(self):
        """Waits until all is done that was typed before; what is offered."""
        self._type("echo the end >> $OFFERED\n")

        def ended():
            while self._terminal.read(65536):   # or the shell waits for us
                pass
            return self.offered.read_text().endswith("the end\n")

        wait_for(ended, "the shell's prompt", 30)
        return self.offered.read_text().splitlines()[:-1]


@pytest.fixture(scope="module", params=sorted(SETUP))
def shell(request, tmp_path_factory):
    made = Shell(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


def options(text):
    """Those that a text of --help explains."""
    return set(re.findall(r"(?m)^ +(?:-\w(?: \S+)?, )?(--[a-z-]+)", text))


def long_ones(offered):
    return {word.rstrip("=") for word in offered if word.startswith("--")}


def test_commands(shell, swiftdrop_binary):
    assert shell.offers("swiftq ") == set(COMMANDS)
    assert shell.offers("swiftq -c x --account y re") == {"retry", "recover"}
    assert shell.offers("swiftdrop ") == {"check", "login", "config"}
    assert shell.offers("swiftdrop -c x lo") == {"login"}


@pytest.mark.parametrize("command", ("",) + COMMANDS)
def test_each_option_of_the_help(shell, command):
    help_ = run([*command.split(), "--help"]).stdout.decode()
    assert long_ones(shell.offers(f"swiftq {command} --")) == options(help_)


def test_options_of_swiftdrop(shell, swiftdrop_binary):
    help_ = subprocess.run([swiftdrop_binary, "--help"], text=True,
                           capture_output=True, check=True).stdout
    offered = shell.offers("swiftdrop -") | shell.offers("swiftdrop check --")
    assert long_ones(offered) == options(help_)


def test_words(shell):
    assert shell.offers("swiftq list ") == set(FOLDERS)
    assert shell.offers("swiftq finish 1.M1P1R1.h,S=1 ") == {
        "done", "failed", "retry"}
    assert shell.offers("swiftq purge ") == {"done", "failed", "fingerprints"}
    assert shell.offers("swiftq show ") == set()
    assert shell.offers("swiftq recover --older-than ") == set()


@pytest.mark.parametrize("line", [
    "swiftq -c {} --account ", "swiftq --config={} list --account ",
    "swiftdrop -c {} login "])
def test_accounts(shell, ini, line):
    path = ini({"SMTP": {}, "PRODUCTION": {}, "test": {}})
    assert shell.offers(line.format(path)) == {"PRODUCTION", "test"}
    assert shell.offers(line.format("/no/such/file")) == set()


def test_files(shell, tmp_path):
    (tmp_path / "swiftdrop.ini").touch()
    for line in ("swiftq -c ", "swiftq --config=", "swiftdrop --config ",
                 "swiftq show --output "):
        offered = shell.offers(f"{line}{tmp_path}/sw")
        assert {os.path.basename(path) for path in offered} == {
            "swiftdrop.ini"}, line


def test_the_command_of_run(shell):
    assert "setpriv" in shell.offers("swiftq run --once -- setpri")
    assert "setpriv" in shell.offers("swiftq run --once setpri")
    assert any(path.endswith("hostname") for path in
               shell.offers("swiftq run -- cat /etc/hostnam"))
