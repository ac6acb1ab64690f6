# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian package itself; test_systemd.py installs it."""

import hashlib
import os
import re
import subprocess

from conftest import TREE
from lab import debian


def _run(*argv, **options):
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options).stdout


def _sum(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def test_two_builds_are_the_same(package, lab_folder):
    # Another folder with another name; the first one's time has passed.
    again = debian.build(TREE, f"{lab_folder}/package-built-again")
    assert _sum(again) == _sum(package)


def test_lintian_finds_nothing(package):
    changes = package.removesuffix(".deb") + ".changes"
    # Its exit code does not tell of tags below "error". In a program it takes
    # machine code for words as well ("IiF").
    output = _run("lintian", "--allow-root", "--pedantic", "--display-info",
                  "--suppress-tags", "spelling-error-in-binary", changes)
    assert output == "", output


def test_the_build_is_hardened(package):
    log = os.path.join(os.path.dirname(package), "log")
    _run("blhc", "--all", log)


def test_depends_names_what_is_loaded_at_run_time(package, tmp_path):
    """dpkg-shlibdeps does not see what swiftdrop.c loads for LISTEN_FDS."""
    _run("dpkg-deb", "-x", package, str(tmp_path))
    program = (tmp_path / "usr/sbin/swiftdrop").read_bytes()
    sonames = set(re.findall(rb"lib[a-z]+\.so\.\d+", program))
    needed = _run("objdump", "-p", str(tmp_path / "usr/sbin/swiftdrop"))
    linked = set(re.findall(r"NEEDED +(\S+)", needed))
    loaded = {name.decode() for name in sonames} - linked
    assert loaded == {"libsystemd.so.0"}

    depends = _run("dpkg-deb", "-f", package, "Depends")
    named = {re.split(r"[ (|]", entry.strip())[0]
             for entry in depends.split(",")}
    for soname in loaded:
        # Merged /usr: the linker names one path, dpkg knows the other.
        path = re.search(rf"{re.escape(soname)} .*=> (\S+)",
                         _run("/sbin/ldconfig", "-p")).group(1)
        owner = _run("dpkg-query", "-S", f"*{path.removeprefix('/usr')}")
        assert owner.split(":")[0] in named, f"{soname}: {owner}{depends}"


MTA = """Package: {}
Version: 1
Architecture: all
Maintainer: x <x@example.org>
Provides: mail-transport-agent
Conflicts: mail-transport-agent
Description: x
"""


def test_apt_leaves_the_mta_that_is_there(package, tmp_path):
    """Postfix is for a host that has none. Simulated: what is installed here
    but the MTA, and an archive that has nothing but Postfix."""
    with open("/var/lib/dpkg/status") as file:
        here = [text for text in file.read().split("\n\n") if not re.search(
            "(?m)^(Package: postfix|(Pre-)?Depends:.*(postfix|mail-transport)|"
            "Provides:.*mail-transport-agent)", text)]
    (tmp_path / "Packages").write_text(
        MTA.format("postfix") + "Filename: postfix.deb\nSize: 1\n")
    (tmp_path / "list").write_text(f"deb [trusted=yes] file:{tmp_path} ./\n")

    def changes(*installed):
        (tmp_path / "status").write_text("\n\n".join(here + [
            MTA.format(name) + "Status: install ok installed"
            for name in installed]) + "\n")
        options = [f"-oDir::{name}={tmp_path}/{value}" for name, value in (
            ("State", "state"), ("State::status", "status"), ("Cache", "cache"),
            ("Etc::sourcelist", "list"), ("Etc::sourceparts", "none"))]
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "LC_ALL": "C"}
        _run("apt-get", *options, "update", env=environment)
        said = _run("apt-get", *options, "--simulate", "install", package,
                    env=environment)
        return [words[:2] for words in map(str.split, said.splitlines())
                if words[:1] in (["Inst"], ["Remv"])]

    assert changes("exim4-daemon-light") == [["Inst", "swiftdrop"]]
    assert ["Inst", "postfix"] in changes()


def test_everything_for_an_administrator_is_inside(package):
    # Where units are within the merged /usr differs by release; lintian knows.
    names = {line.split(maxsplit=5)[5].replace("./lib/", "./usr/lib/")
             for line in _run("dpkg-deb", "-c", package).splitlines()}
    doc = "./usr/share/doc/swiftdrop"
    # To be read; what is to be copied is not compressed.
    for name in list(names):
        if name.startswith("./usr/share/man/") or name.endswith(".md.gz"):
            names.add(name.removesuffix(".gz"))
    assert names >= {
        "./usr/sbin/swiftdrop", "./usr/bin/swiftq",
        "./usr/share/swiftdrop/swiftq/__main__.py",
        "./usr/share/man/man1/swiftq.1",
        "./usr/share/man/man8/swiftdrop.8",
        "./usr/share/man/man5/swiftdrop.ini.5",
        "./usr/lib/systemd/system/swiftdrop.socket",
        "./usr/lib/systemd/system/swiftdrop@.service",
        "./usr/lib/systemd/system/swiftdrop-check.service",
        "./usr/lib/systemd/system/swiftdrop-check.timer",
        "./usr/lib/systemd/system/swiftdrop-login.service",
        "./usr/lib/systemd/system/swiftdrop-login.timer",
        "./usr/lib/systemd/system/swiftdrop-report@.service",
        "./usr/lib/systemd/system/swiftq-run@.service",
        "./usr/lib/systemd/system/swiftq-recover@.service",
        "./usr/lib/systemd/system/swiftq-recover@.timer",
        "./usr/lib/systemd/system/swiftq-purge@.service",
        "./usr/lib/systemd/system/swiftq-purge@.timer",
        "./usr/lib/systemd/catalog/swiftdrop.catalog",
        "./usr/lib/sysusers.d/swiftdrop.conf",
        "./usr/share/bash-completion/completions/swiftdrop",
        "./usr/share/bash-completion/completions/swiftq -> swiftdrop",
        "./usr/share/zsh/vendor-completions/_swiftdrop",
        f"{doc}/swiftdrop.ini.example", f"{doc}/postfix/main.cf",
        f"{doc}/postfix/master.cf", f"{doc}/postfix/master-spawn.cf",
        f"{doc}/examples/README.md", f"{doc}/examples/take-mail.py",
        f"{doc}/examples/statsd_exporter.yml",
        f"{doc}/examples/grafana.json",
        f"{doc}/README.md", f"{doc}/OPERATING.md", f"{doc}/MTAS.md",
        f"{doc}/ELSEWHERE.md", f"{doc}/units/README.md",
        f"{doc}/units/hardened.conf", f"{doc}/units/loopback.conf"}
    assert not [name for name in names if name.startswith("./etc/")]


def test_the_login_is_off_until_it_is_asked_for(package, tmp_path):
    """The others are enabled and started; what is removed is stopped."""
    _run("dpkg-deb", "-e", package, str(tmp_path / "control"))
    install, remove = ((tmp_path / "control" / name).read_text()
                       for name in ("postinst", "prerm"))
    for unit in ("swiftdrop.socket", "swiftdrop-check.timer"):
        assert f"deb-systemd-invoke start '{unit}'" in install
    assert "deb-systemd-invoke start 'swiftdrop-login" not in install
    # An administrator's choice outlives an upgrade.
    assert re.search(r"if deb-systemd-helper debian-installed "
                     r"'swiftdrop-login.timer'; then(.|\n)*?"
                     r"if deb-systemd-helper --quiet was-enabled "
                     r"'swiftdrop-login.timer'; then\n.*\n"
                     r"\s*deb-systemd-helper enable 'swiftdrop-login.timer'",
                     install)
    assert install.count("enable 'swiftdrop-login.timer'") == 1
    assert "deb-systemd-invoke stop swiftdrop-login.timer" in remove


def test_units_name_the_program_where_it_is_installed(tmp_path):
    _run("make", "-s", "-C", str(TREE), "install", f"DESTDIR={tmp_path}",
         "prefix=/usr/local")
    for name in ("swiftdrop@.service", "swiftdrop-check.service",
                 "swiftdrop-login.service", "hardened.conf"):
        path, = tmp_path.rglob(name)
        text = path.read_text()
        assert "/usr/local/sbin/swiftdrop" in text, text
        assert "/usr/sbin/" not in text, text
        assert path.stat().st_mode & 0o777 == 0o644


def test_swiftq_runs_where_it_is_installed(tmp_path):
    folders = [f"prefix={tmp_path}/usr", *(
        f"{name}={tmp_path}/usr/{name}"
        for name in ("unitdir", "catalogdir", "sysusersdir"))]
    _run("make", "-s", "-C", str(TREE), "install", *folders)
    (tmp_path / "home").mkdir()
    shown = _run(f"{tmp_path}/usr/bin/swiftq", "--version",
                 cwd=tmp_path / "home", env={"PATH": "/usr/bin"})
    assert shown.startswith("swiftq ")
    # With what Python compiled at the first start.
    assert list(tmp_path.rglob("swiftq/__pycache__/store.*")) == []
    assert list(tmp_path.rglob("swiftq/__pycache__/commands.*")) != []
    _run("make", "-s", "-C", str(TREE), "uninstall", *folders)
    left = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert left == []
