# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of the C: floors, includes that point one way, short functions,
each helper above its first caller."""

import re

import pytest

from helpers import program

# A room is a file with its header. Each includes what is below it; rooms on
# one floor do not know each other. The map gives each its floor.
MAP = (program.TOP / "CONTRIBUTING.md").read_text("utf-8")
FLOORS = {name: int(floor) for floor, name in re.findall(
    r"^\| (\d) \| `(\w+)\.c` \|", MAP, flags=re.M)}
CELLAR = {f"lib/{name}" for name in re.findall(r"`(\w+)(?:\.h)?`", re.search(
    r"^\| in `lib/` .*?\n\n", MAP, flags=re.M | re.S)[0])}
# The entry point is a house of its own, on this floor and on lib/.
IMAGE_GROUND = "config"
BODY_MAX = 50


def tree():
    """The C of the filter and of the image, without tests and measurements."""
    return {str(path.relative_to(program.TOP)): path.read_text("utf-8")
            for pattern in ("*.[ch]", "lib/*.[ch]", "image/*.[ch]")
            for path in sorted(program.TOP.glob(pattern))}


def room(path):
    return path.rpartition(".")[0]


def blank(match):
    """Nothing, in as many lines."""
    return "\n" * match[0].count("\n")


def code(text):
    """Without comments, strings and the preprocessor's lines."""
    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    text = re.sub(r'"(\\.|[^"\\\n])*"|' r"'(\\.|[^'\\\n])+'", '""', text)
    return re.sub(r"^[ \t]*#(\\\n|.)*", blank, text, flags=re.M)


# Rooms.

def included(files, path):
    """The rooms that a file includes, looked for as the compiler does."""
    rooms = {room(other) for other in files}
    for name in re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)\.h"',
                           files[path], flags=re.M):
        folder = path.rpartition("/")[0]
        for candidate in (f"{folder}/{name}".lstrip("/"), name, f"lib/{name}"):
            if candidate in rooms:
                break
        if candidate != room(path):
            yield candidate


def is_below(lower, upper):
    """Whether one room may include the other."""
    if upper.startswith("lib/"):
        return lower.startswith("lib/")
    if upper.startswith("image/"):
        return lower.startswith(("lib/", "image/")) or lower == IMAGE_GROUND
    if lower.startswith("lib/"):
        return True
    return FLOORS.get(lower, 99) < FLOORS.get(upper, 0)


def arrows(files):
    """Every include between two rooms."""
    return {(room(path), other) for path in files
            for other in included(files, path)}


def homeless(files):
    """Rooms that CONTRIBUTING.md does not show."""
    return [f"{name} has no floor" for name in sorted(
        {room(path) for path in files if not path.startswith("image/")}
        - set(FLOORS) - CELLAR)]


def arrows_up(files):
    return [f"{upper} includes {lower}" for upper, lower in
            sorted(arrows(files)) if not is_below(lower, upper)]


def circles(files):
    """The rooms that are left when those that include nothing more go."""
    left = {}
    for upper, lower in arrows(files):
        left.setdefault(upper, set()).add(lower)
        left.setdefault(lower, set())
    while bottom := {name for name, below in left.items() if not below}:
        left = {name: below - bottom for name, below in left.items()
                if name not in bottom}
    return [f"{name} is part of a circle or above one"
            for name in sorted(left)]


# Functions.

def functions(text):
    """Name, first line and body of each."""
    lines = code(text).splitlines()
    start, name = None, None
    for number, line in enumerate(lines, 1):
        if found := re.match(r"(?:\w[\w \t]*[ \t*])?(\w+)\(", line):
            name = found[1]
        if line == "{":
            start = number
        if line == "}" and start is not None:
            yield name, start, "\n".join(lines[start:number - 1])
            start = None


def long_functions(files):
    return [f"{path}:{start}: {name}() has {body.count(chr(10)) + 1} lines"
            for path, text in files.items()
            for name, start, body in functions(text)
            if body.count("\n") + 1 > BODY_MAX]


def calls(text):
    """For each function those of the file that it leads to, by any way."""
    bodies = {name: body for name, _, body in functions(text)}
    known = {name: {other for other in bodies
                    if re.search(rf"\b{other}\b", body)}
             for name, body in bodies.items()}
    for _ in known:
        for name, reached in known.items():
            known[name] = reached.union(*(known[other] for other in reached))
    return known


def declarations(text):
    """What is declared at file level before its body: line and name."""
    names = {name: start for name, start, _ in functions(text)}
    flat = re.sub(r"^\{\n.*?^\}", lambda body: "}" + blank(body), code(text),
                  flags=re.M | re.S)
    for found in re.finditer(r"^(?!typedef)\w[^;={}]*;", flat, flags=re.M):
        words = re.sub(r"\b(struct|enum|union)\s+\w+", "", found[0])
        for word in re.findall(r"\w+", words):
            line = flat.count("\n", 0, found.start()) + 1
            if names.get(word, 0) > line:
                yield line, word


def is_excused(text, line, name):
    """Whether the comment above names a function that calls back."""
    above = "\n".join(text.splitlines()[:line - 1])
    comment = re.search(r"/\*((?:(?!\*/).)*)\*/\s*\Z", above, flags=re.S)
    reached = calls(text)
    return comment is not None and any(
        name in reached.get(other, ()) and other in reached.get(name, ())
        for other in re.findall(r"(\w+)\(\)", comment[1]) if other != name)


def forward_declarations(files):
    return [f"{path}:{line}: {name}() is declared before its body"
            for path, text in files.items() if path.endswith(".c")
            for line, name in declarations(text)
            if not is_excused(text, line, name)]


@pytest.mark.parametrize("rule", (
    homeless, arrows_up, circles, long_functions, forward_declarations),
    ids=lambda rule: rule.__name__)
def test_house(rule):
    assert rule(tree()) == []


# Each rule finds what it is for.

STORY = "\tx();\n" * BODY_MAX
PLANTED = (
    (homeless, "attic.c", "", "attic has no floor"),
    (homeless, "buf.c", "", "buf has no floor"),
    (homeless, "lib/hole.h", "", "lib/hole has no floor"),
    (arrows_up, "smtp.c", '#include "swift.h"\n', "smtp includes swift"),
    (arrows_up, "swift.h", '#include "inject.h"\n', "swift includes inject"),
    (arrows_up, "lib/buf.h", ' # include "config.h"\n',
     "lib/buf includes config"),
    (arrows_up, "image/health.c", '#include "smtp.h"\n',
     "image/health includes smtp"),
    (arrows_up, "config.h", '#include "image/health.h"\n',
     "config includes image/health"),
    (circles, "lib/buf.c", '#include "stream.h"\n',
     "lib/stream is part of a circle or above one"),
    (circles, "image/logs.h", '#include "supervise.h"\n',
     "image/supervise is part of a circle or above one"),
    (long_functions, "lib/clock.c",
     f"int\nlong_one(void)\n{{\n{STORY}}}\nint\nlonger(int a,\n    int b)\n"
     f"{{\n{STORY}\tx();\n}}\n", "longer() has 51 lines"),
    (forward_declarations, "lib/clock.c",
     "static int late(const struct timespec *t,\n    int x);\n"
     "static int\nlate(const struct timespec *t, int x)\n{\n}\n",
     "late() is declared before its body"),
    (forward_declarations, "lib/clock.c",
     "typedef int one_fn(void);\nstatic one_fn early, late;\n"
     "static int\nlate(void)\n{\n}\n", "late() is declared before its body"),
    (forward_declarations, "lib/clock.c",
     "/* Handles it: see other(). */\nstatic int late(void);\n"
     "static int\nother(void)\n{\n\treturn late();\n}\n"
     "static int\nlate(void)\n{\n\treturn 0;\n}\n",
     "late() is declared before its body"),
)


@pytest.mark.parametrize("rule, path, text, finding", PLANTED, ids=[
    f"{row[0].__name__}-{row[3]}" for row in PLANTED])
def test_planted(rule, path, text, finding):
    files = tree()
    files[path] = files.get(path, "") + text
    assert [line for line in rule(files) if line.endswith(finding)] != []
    assert not any("long_one" in line for line in rule(files))


def test_mutual_calls_are_excused():
    files = {"lib/x.c": """
/* A group has members, and a member may be a group: read_group() calls it. */
static int read_member(struct x *x);

static int
read_list(struct x *x)
{
	return read_member(x);
}

static int
read_group(struct x *x)
{
	return read_list(x);
}

static int
read_member(struct x *x)
{
	return read_group(x);
}
"""}
    assert forward_declarations(files) == []
