# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published of a version: complete, the same each time, and as
doc/RELEASING.md tells it."""

import datetime
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import fastjsonschema
import pytest

import swiftq
import test_readme
from conftest import TREE
from lab import image
from test_readme import shell

story = test_readme.story

DOC = "doc/RELEASING.md"
SCHEMAS = pathlib.Path("/usr/local/lib/swiftdrop-tests/lib/node_modules/"
                       "@cyclonedx/cyclonedx-library/res/schema")
VERSION = re.search("(?m)^VERSION = (.*)$",
                    (TREE / "Makefile").read_text())[1]
# The time of the commit, and a time zone of who builds.
TIME = 1795000000
HERE = {"GIT_COMMITTER_DATE": f"@{TIME} +0000",
        "GIT_AUTHOR_DATE": f"@{TIME} +0000", "GIT_AUTHOR_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x@example.org", "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x@example.org"}


def clone(folder):
    """A repository with this tree as its only commit."""
    folder.mkdir(parents=True)
    shell(f"cp -a --parents $(git ls-files --cached --others "
          f"--exclude-standard --deduplicate | while read -r file; do "
          f"[ ! -e $file ] || echo $file; done) {folder}"
          if (TREE / ".git").exists() else
          f"cp -a . {folder} && rm -rf {folder}/build")
    shell("git init -q -b main && git add -A && git commit -qm x", folder,
          **HERE)
    return folder


def sums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.iterdir()}


def test_all_say_the_same_version(swiftdrop_binary):
    assert swiftq.__version__ == VERSION
    changelog = (TREE / "debian" / "changelog").read_text()
    assert changelog.startswith(f"swiftdrop ({VERSION}) ")
    assert re.match(rf"swiftdrop {VERSION} \(\d{{4}}-\d\d-\d\d\)\n",
                    (TREE / "NEWS").read_text())
    shown = subprocess.run([swiftdrop_binary, "--version"], check=True,
                           capture_output=True, text=True).stdout
    assert shown.startswith(f"swiftdrop {VERSION}\n")


# ---- the source -------------------------------------------------------------

@pytest.fixture(scope="module")
def tarballs(lab_folder):
    """Of the same commit in two places, made under different conditions."""
    folder = pathlib.Path(lab_folder) / "tarballs"
    made = []
    for name, setting in (("a", "umask 022; TZ=UTC"),
                          ("another", "umask 077; TZ=Asia/Tokyo")):
        tree = clone(folder / name)
        shell(f"{setting} make -s dist", tree)
        made.append(tree / f"swiftdrop-{VERSION}.tar.gz")
    return made


def test_two_tarballs_are_the_same(tarballs):
    first, second = (path.read_bytes() for path in tarballs)
    assert first == second
    with tarfile.open(tarballs[0]) as tar:
        for entry in tar:
            assert (entry.uid, entry.gid, entry.mtime) == (0, 0, TIME)
            assert entry.mode & 0o777 in (0o644, 0o755, 0o777), entry.name


def test_tarball_is_the_source_and_builds_by_itself(tarballs, tmp_path):
    with tarfile.open(tarballs[0]) as tar:
        names = {entry.name.partition("/")[2] for entry in tar
                 if not entry.isdir()}
        tar.extractall(tmp_path)
    built = re.compile(r"^(build|swiftdrop$)|\.(o|d|pyc|gcda)$|__pycache__")
    assert not [name for name in names if built.search(name)]
    for name in ("LICENSE", "NEWS", "debian/rules", "doc/swiftdrop.8",
                 "image/Containerfile", "tests/install", "swiftdrop.c"):
        assert name in names
    tree = tmp_path / f"swiftdrop-{VERSION}"
    shell("make -s -j2 CFLAGS=-O0 swiftdrop build/unit_smtp && "
          "build/unit_smtp", tree)
    assert f"swiftdrop {VERSION}" in shell("./swiftdrop --version", tree)


@pytest.mark.long
def test_tarball_passes_its_unit_tests(tarballs, tmp_path):
    with tarfile.open(tarballs[0]) as tar:
        tar.extractall(tmp_path)
    shell("make -s -j2 CFLAGS=-O0 unit", tmp_path / f"swiftdrop-{VERSION}")


# ---- the bill of materials --------------------------------------------------

def schema(name):
    return json.loads((SCHEMAS / f"{name}.SNAPSHOT.schema.json").read_text())


@functools.cache
def valid():
    """Returns the check of CycloneDX's own schema."""
    def other(address):
        found = re.search(r"/([^/]+?)(\.SNAPSHOT)?\.schema\.json$", address)
        return schema(found[1])

    return fastjsonschema.compile(schema("bom-1.5"), handlers={"http": other})


class Image:
    """What an image holds, and what it says of that."""

    def __init__(self, podman, name, folder):
        self.files = {
            path for path, entry in podman.files(name).items()
            if not entry.isdir() and not path.startswith(
                ("/dev/", "/proc/", "/sys/"))} - {
                    "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
                    "/etc/mtab", "/run/.containerenv"}
        container = podman.run("create", name).stdout.strip()
        try:
            podman.run("cp", f"{container}:/usr/share/swiftdrop/sbom.cdx.json",
                       folder / "sbom")
        finally:
            podman.run("rm", container)
        self.bill = json.loads((folder / "sbom").read_text())
        self.components = {component["name"]: component
                           for component in self.bill["components"]}
        assert len(self.components) == len(self.bill["components"])

    def of(self, name):
        """Returns the files of a component."""
        return {place["location"] for place in
                self.components[name]["evidence"]["occurrences"]}

    def debian(self):
        return {name: component for name, component in self.components.items()
                if name != "swiftdrop"}


@pytest.fixture(scope="module", params=["swiftdrop", "swiftdrop-filter"])
def built(request, podman, tmp_path_factory):
    name = {"swiftdrop": podman.image,
            "swiftdrop-filter": podman.filter}[request.param]
    made = Image(podman, name, tmp_path_factory.mktemp("bill"))
    made.title = request.param
    return made


@pytest.fixture(scope="module")
def asked(podman):
    """A function that asks a command where the image was built."""
    build = podman.run(
        "build", "--quiet", "--network=host", "-f", "image/Containerfile",
        "--target", "build", "--build-arg", f"BASE={image.BASE}", *(
            ["--build-arg", "CURL_VERSION"] if os.environ.get("CURL_VERSION")
            else []), ".", cwd=image.TREE).stdout.split()[-1]
    # Of a name that is unknown dpkg-query says so, and exits 1.
    return lambda *command: podman.run(
        "run", "--rm", "--network=none", build, *command, check=False).stdout


def test_bill_is_as_cyclonedx_describes_it(built):
    valid()(built.bill)
    about = built.bill["metadata"]
    assert about["component"]["name"] == built.title
    assert about["component"]["version"] == VERSION
    datetime.datetime.strptime(about["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
    references = {component["bom-ref"]
                  for component in built.bill["components"]}
    assert set(built.bill["dependencies"][0]["dependsOn"]) == references


# A symbol of each library that can be in the program, and its package.
LINKED = {"curl_easy_perform": "curl", "json_object": "libjansson-dev",
          "OPENSSL_init_crypto": "libssl-dev", "inflate": "zlib1g-dev",
          "ZSTD_decompress": "libzstd-dev"}


def test_what_the_program_is_linked_with_is_in_the_bill(built, asked):
    symbols = asked("nm", "-j", "/programs/usr/sbin/swiftdrop").split()
    linked = {name for symbol, name in LINKED.items() if symbol in symbols}
    assert len(linked) >= 3
    program = built.bill["dependencies"][1]
    assert {reference.split("@")[0] for reference in program["dependsOn"]} \
        == {f"pkg:deb/debian/{name}" for name in linked}
    for name in linked:
        assert built.components[name]["type"] == "library"
        assert "/usr/sbin/swiftdrop" in built.of(name)


def test_the_schema_can_refuse(built):
    for name, value in (("type", "thing"), ("purl", 1),
                        ("licenses", [{"license": {"id": "None-Such"}}])):
        bill = json.loads(json.dumps(built.bill))
        bill["components"][1][name] = value
        with pytest.raises(fastjsonschema.JsonSchemaException):
            valid()(bill)


OURS = re.compile(r"/usr/sbin/swiftdrop(-entry)?|/usr/share/swiftdrop/[^/]+|"
                  r"/usr/share/doc/swiftdrop/copyright|/lib|/lib64|/var/run|"
                  r"/etc/(passwd|group|nsswitch\.conf|swiftdrop\.ini)")


def test_each_file_of_the_image_is_of_a_package_or_ours(built):
    placed = set()
    for name in built.debian():
        placed |= built.of(name)
        assert f"/usr/share/doc/{name}/copyright" in built.of(name)
    ours = built.of("swiftdrop")
    assert all(OURS.fullmatch(path) for path in ours), ours
    assert placed | ours == built.files
    # Linked into it, so it is theirs as well.
    assert placed & ours == {"/usr/sbin/swiftdrop"}


def test_packages_are_those_that_dpkg_knows(built, asked):
    """dpkg is asked where the image was built, for each file and version."""
    versions = dict(line.split() for line in asked(
        "dpkg-query", "-W", "-f", "${Package} ${Version}\n").splitlines())
    postfix, = asked("sh", "-c", "dpkg-deb -f /build/postfix_*.deb Version"
                     ).split()
    curl, = re.findall("(?m)^Version: (.*)$", asked(
        "sh", "-c", "cat /build/curl/curl_*.dsc"))
    versions |= {"postfix": postfix, "curl": curl}
    assert {name: component["version"]
            for name, component in built.debian().items()} == {
                name: versions[name] for name in built.debian()}

    claimed = {(path, name) for name in built.debian()
               for path in built.of(name)
               if path.startswith("/usr/") and name not in ("curl", "postfix")
               and path != "/usr/sbin/swiftdrop"
               and not path.startswith("/usr/share/doc/")}
    # Either name: /usr is merged, and dpkg knows one of the two.
    answer = asked("dpkg-query", "-S", *(
        name for path, _ in claimed
        for name in (path, path.removeprefix("/usr"))))
    known = set()
    for line in answer.splitlines():
        names, _, path = line.rpartition(": ")
        path = path if path.startswith("/usr/") else f"/usr{path}"
        known |= {(path, re.sub(":.*", "", name))
                  for name in names.split(", ")}
    assert claimed - known == set()
    assert ("/usr/lib/locale/C.utf8/LC_CTYPE", "libc-bin") in claimed


def test_licences_are_those_of_the_copyright_files(built, podman):
    def licences(name):
        return {entry["license"]["name"]
                for entry in built.components[name].get("licenses", ())}

    assert licences("libjansson-dev") == {"Expat"}
    assert "curl" in licences("curl")
    assert "Apache-2.0" in licences("libssl-dev")
    assert built.components["swiftdrop"]["licenses"] == [
        {"license": {"id": "GPL-3.0-or-later"}}]
    assert "/usr/share/common-licenses/GPL-3" in built.of("base-files")


# ---- the chapter ------------------------------------------------------------

@pytest.fixture
def key(tmp_path):
    """A key of this test's own; returns the environment that has it."""
    home = tmp_path / "gnupg"
    home.mkdir(0o700)
    environment = {**HERE, "GNUPGHOME": str(home), "DEBEMAIL": "x@example.org",
                   "DEBFULLNAME": "x"}
    shell("gpg -q --batch --passphrase '' --quick-generate-key "
          "'x <x@example.org>' ed25519 sign", **environment)
    yield environment
    shell("gpgconf --kill all", **environment)


def test_a_version_by_the_chapter(story, tmp_path, key):
    """From the last tag to the next; a release of it is not refused."""
    tree = clone(tmp_path / "swiftdrop")
    shell(f"git tag v{VERSION} && git commit -qm later --allow-empty", tree,
          **key)
    edit, log, check, commit = (
        story.take(DOC, start).text for start in (
            "version=", "git log", "make check", "git commit"))
    version = re.match("version=(.*)\n", edit)[1]
    shell(edit, tree, **key)
    assert shell(log, tree).split(maxsplit=1)[1] == "later\n"
    shell(check.replace("make ", "make --dry-run "), tree)
    shell(f"version={version}\n{commit}", tree, **key)
    shell(f"git verify-tag v{version}", tree, **key)
    left = shell(f"git grep -nF '{VERSION}' -- ':!NEWS' ':!bench' ':!tests' "
                 "':!debian/changelog' ':!debian/*.preinst' || true", tree)
    assert [line for line in left.splitlines()
            if "older than" not in line] == []
    assert re.match(rf"swiftdrop {version} \(\d{{4}}-\d\d-\d\d\)\n",
                    (tree / "NEWS").read_text())
    assert shell("dpkg-parsechangelog -S Version", tree) == f"{version}\n"


def test_more_that_a_release_takes(story):
    for command in story.take(DOC, "make release SOURCE="
                              "https://git.example.org/swiftdrop BASE="
                              ).commands():
        shell(command.replace("make", "make --dry-run"))


def refused(tree, source="https://git.example.org/swiftdrop"):
    """Returns why a release of a tree is not made."""
    done = subprocess.run(
        ["release/build", "build/release"], cwd=tree, text=True,
        capture_output=True, env={**test_readme.at_a_prompt({}),
                                  "SOURCE": source, "PODMAN": "false"})
    assert done.returncode == 1 and not (tree / "build").exists()
    return done.stderr


def test_what_is_no_release_is_refused(tmp_path):
    tree = clone(tmp_path / "swiftdrop")
    for source in ("", "git@git.example.org:swiftdrop",
                   "https://user:secret@git.example.org/swiftdrop",
                   "https://token@git.example.org"):
        said = refused(tree, source)
        assert "SOURCE=" in said and "secret" not in said
    (tree / "more").write_text("")
    assert "not clean" in refused(tree)
    (tree / "more").unlink()
    for name, text in (("NEWS", f"swiftdrop {VERSION} (unreleased)\n"),
                       ("debian/changelog", None)):
        before = (tree / name).read_text()
        (tree / name).write_text(
            text or before.replace(VERSION, "0.0.1", 1))
        shell("git commit -qam x", tree, **HERE)
        assert name in refused(tree)
        (tree / name).write_text(before)
        shell("git commit -qam x", tree, **HERE)


@pytest.mark.parametrize("source, label", (
    ("https://git.example.org/swiftdrop", "https://git.example.org/swiftdrop"),
    ("https://ci-token:secret@git.example.org:8443/a@b",
     "https://git.example.org:8443/a@b"),
    ("https://secret@git.example.org", "https://git.example.org"),
    ("https://user:se/cret@git.example.org/swiftdrop", ""),
    ("http://user:secret@git.example.org/swiftdrop", ""),
    ("ssh://secret@git.example.org/swiftdrop", ""),
    ("git@git.example.org:secret/swiftdrop", ""), ("/srv/git/secret", "")))
def test_no_secret_of_a_clone_becomes_a_label(source, label, tmp_path):
    shell(f"git init -q && git remote add origin {source}", tmp_path)
    for command, environment in (
            ("make -n image", {"GIT_DIR": str(tmp_path / ".git")}),
            (f"make -n image-filter SOURCE={source}", {})):
        said = shell(command, **environment)
        assert f"s|${{SOURCE}}|{label}|" in said
        assert "secret" not in said and "se/cret" not in said


def signed(take, folder, key):
    """Signs what is in build/release below folder, and verifies it."""
    sign, verify = take("cd build/release"), take("sha256sum -c")
    shell(sign, folder, **key)
    release = folder / "build" / "release"
    assert ": OK" in shell(verify, release, **key)
    return verify, release


def test_files_are_signed_and_verified(story, tmp_path, key):
    release = tmp_path / "build" / "release"
    release.mkdir(parents=True)
    (release / f"swiftdrop-{VERSION}.tar.gz").write_text("content")
    shell("sha256sum * > SHA256SUMS", release)
    verify, _ = signed(lambda start: story.take(DOC, start).text, tmp_path,
                       key)
    fetched = story.take("README.md", "sha256sum").text
    assert ": OK" in shell(fetched, release, **key)
    for name in f"swiftdrop-{VERSION}.tar.gz", "SHA256SUMS":
        before = (release / name).read_bytes()
        (release / name).write_bytes(before + b"\n")
        for text in verify, fetched:
            with pytest.raises(AssertionError):
                shell(text, release, **key)
        (release / name).write_bytes(before)


@pytest.mark.long
def test_a_release_by_the_chapter(story, podman, tmp_path, key):
    """Made twice, in two places; then looked at and published."""
    def take(start):
        return story.take(DOC, start).text

    make, compare, look, publish, notes = map(take, (
        "make release SOURCE=https://git.example.org/swiftdrop\n", "diff ",
        "apt-get install", "git push", "sed -n"))
    environment = {**key, "BASE": image.BASE,
                   "CONTAINERS_CONF": podman.environment["CONTAINERS_CONF"],
                   "version": VERSION}
    name = f"localhost/swiftdrop:{VERSION}"
    first, second = (clone(tmp_path / place) for place in ("first", "second"))
    for tree in first, second:
        with open(tree / "build.log", "w") as log:
            (tree / ".git" / "info" / "exclude").write_text("/build.log\n")
            subprocess.run(["bash", "-e", "-c", make], cwd=tree, check=True,
                           stdout=log, stderr=log,
                           env=test_readme.at_a_prompt(environment))
        labels = json.loads(podman.run(
            "image", "inspect", "-f", "{{json .Labels}}", name).stdout)
        # What it had built is not taken for built by the second.
        podman.run("rmi", name)
    assert shell(compare, first) == ""
    release = first / "build" / "release"
    assert sums(release) == sums(second / "build" / "release")
    assert sorted(sums(release)) == [
        "SHA256SUMS", f"swiftdrop-{VERSION}.tar.gz",
        f"swiftdrop-{VERSION}_amd64.cdx.json",
        f"swiftdrop-{VERSION}_amd64.oci.tar",
        f"swiftdrop_{VERSION}_debian12_amd64.deb"]
    shell("sha256sum -c SHA256SUMS", release)
    revision = shell("git rev-parse HEAD", first).strip()
    created = datetime.datetime.fromtimestamp(TIME, datetime.timezone.utc)
    expected = {"title": "swiftdrop", "version": VERSION,
                "revision": revision,
                "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
                **{key: "https://git.example.org/swiftdrop"
                   for key in ("source", "url", "documentation")}}
    for label, value in expected.items():
        assert labels[f"org.opencontainers.image.{label}"] == value

    try:
        simulate, *rest = look.splitlines()
        assert "Inst swiftdrop" in shell(simulate, release, **environment)
        assert f"swiftdrop {VERSION}\n" in shell("\n".join(rest), release,
                                                 **environment)
        origin, www = tmp_path / "origin", tmp_path / "www"
        shell(f"git init -q --bare {origin} && git remote add origin {origin}"
              f" && git tag v{VERSION}", first)
        www.mkdir()
        published = publish.replace(
            "www.example.org:/srv/www/swiftdrop", str(www)).replace(
                "docker://registry.example.org/", f"oci:{tmp_path}/")
        shell(published, first, **environment)
        assert shell(f"git -C {origin} rev-parse v{VERSION}").strip() == \
            revision
        assert sums(www / VERSION) == sums(release)
        assert (tmp_path / "swiftdrop").exists()
        bill = json.loads((release / f"swiftdrop-{VERSION}_amd64.cdx.json"
                           ).read_text())
        valid()(bill)
        assert shell(notes, first).startswith(f"swiftdrop {VERSION} (")
        assert "0.1.0 (" not in shell(notes, first)
    finally:
        podman.run("rmi", name, check=False)
        shutil.rmtree(first / "build")
