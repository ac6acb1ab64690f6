# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the program: each must be found by mails that are made for it,
and the program itself has to pass with the same ones."""

import os
import pathlib
import re
import shutil
import subprocess

from .plan import Attempt, Fault

TREE = pathlib.Path(__file__).resolve().parents[2]
# What is needed to build, with what is built already.
PARTS = ("*.[ch]", "Makefile", "lib/*.[ch]", "image/image.mk", "build/*.[od]",
         "build/lib/*.[od]")


class Mutant:
    """kind, text: as what it is found, and what is said then. path, old, new:
    the file, and what takes the place of what. mails: of each the targets and the faults; more: the rest of
    each Attempt."""

    def __init__(self, kind, path, old, new, *mails, text="", **more):
        self.kind = kind
        self.text = text
        self._edit = path, old, new
        self._mails = mails
        self._more = more

    def attempts(self):
        return [Attempt(number, 2000, targets,
                        faults=[Fault(*fault) for fault in faults],
                        **self._more)
                for number, (targets, *faults) in enumerate(self._mails, 1)]

    def build(self, folder):
        """Builds the program with the fault in it; returns its path."""
        path, old, new = self._edit
        for pattern in PARTS:
            for source in TREE.glob(pattern):
                copy = folder / source.relative_to(TREE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)
        text = (folder / path).read_text()
        assert len(re.findall(old, text, flags=re.S)) == 1, \
            f"{path} has not one {old!r}"
        (folder / path).write_text(re.sub(old, new, text, flags=re.S))
        subprocess.run(["make", "-s", "-C", folder, "swiftdrop"], check=True,
                       env={"PATH": os.environ["PATH"]})
        return folder / "swiftdrop"


MUTANTS = {
    "any 2xx as stored": Mutant(
        "lost", "swift.c",
        r'(if \(p->outcome == SWIFT_STORED && !is_our_etag\(s, p\)\))',
        r"if (p->status / 100 == 2)\n"
        r'\t\treturn settle(p, SWIFT_STORED, VERDICT_DONE, "");\n\t\1',
        ("a", ("store", "PUT.head", "answer:202", 0)),
        ("a", ("store", "PUT.head", "answer:204", 0))),
    "ETag not compared": Mutant(
        "lost", "swift.c",
        r"(if \(p->outcome == SWIFT_STORED && )!is_our_etag\(s, p\)",
        r"\1p->status == 0",
        ("a", ("store", "PUT.body", "damage", 0)),
        ("ab", ("store", "PUT.body", "damage", 0))),
    "dot before the uploads": Mutant(
        "phantom", "deliver.c",
        r"(\tif \(r == NULL\)\n\t\tr = store_all\(d\);\n)(.*)"
        r"(\tif [^;]*inject_commit[^;]*;\n)", r"\3\2\1",
        ("af", ("store", "PUT.head", "answer:413", 0)),
        ("abf", ("store", "PUT.head", "answer:500", 0))),
    "two forwards": Mutant(
        "twice", "deliver.c",
        r"(refuse_inject\(d, inject_commit[^;]*;\n)",
        r"\1\tif (r == NULL && d->injected.n > 0) {\n"
        r"\t\tinject_end(d->inject);\n"
        r"\t\t(void)inject_recipient(d->inject, d->injected.transaction,\n"
        r"\t\t    d->injected.recipients[0]);\n"
        r"\t\t(void)inject_content(d->inject, &d->message, "
        r"d->deadline_ms);\n"
        r"\t\t(void)inject_commit(d->inject, d->deadline_ms);\n\t}\n",
        ("f",), ("af",)),
    "half of it forwarded": Mutant(
        "damaged", "inject.c",
        r"(stuff\(&out, before, in, n > 0 \? \(size_t\)n)( : 0\);)",
        r'\1 / 2\2\n\t\tbuf_adds(&out, "\\r\\n");',
        ("f",), ("af",)),
    "another name said": Mutant(
        "lost", "deliver.c", r"(stored as [^;]*)d->places\[0\]\.put\.name",
        r"\1d->places[0].put.trans", ("a",), ("ab",)),
    "reply before all": Mutant(
        "lost", "session.c",
        r"(\n\tr = status == STREAM_OK) \? deliver_commit(.*?)"
        r"\n\tif \(r != NULL\)\n\t\tstatus = answer\(s, r\);",
        r"\n\tstatic const struct reply all_is_well = {.code = 250, "
        r'.text = "2.0.0 Ok"};\n'
        r"\tstatus = send_reply(s, &all_is_well);\n"
        r"\t(void)stream_flush(&s->client, s->end_ms);"
        r"\1 ? deliver_commit\2",
        ("a", ("store", "PUT.head", "answer:500", 0)),
        ("f", ("behind", "dot.before", "cut")), text="account a"),
    "no reply to what is deferred": Mutant(
        "silent", "session.c", r"(status = )(answer\(s, r\);\n\tdeliver_close)",
        r"\1r->code / 100 == 4 ? STREAM_END : \2",
        ("a", ("store", "PUT.head", "answer:500", 0)),
        ("f", ("behind", "dot.before", "cut"))),
    "who is not there refuses": Mutant(
        "wrong 5xx", "session.c", ": &reply_write_error;",
        ": &reply_unknown_550;",
        ("f", ("behind", "RCPT.after", "cut"))),
    "what is refused behind is in doubt": Mutant(
        "needless", "deliver.c", r"outcome == INJECT_IN_DOUBT\)",
        r"outcome != INJECT_FAILED)", ("af",), ("abf",), refused=True),
    "all is in doubt and nothing deleted": Mutant(
        "orphan", "swift.c",
        r"gone = swift_delete\(s, p, deadline_ms, &reason, &status\) == 0;",
        r"status = 0;\n\tgone = deadline_ms < 0;",
        ("abf", ("behind", "dot.before", "answer:550 5.7.1 No"))),
    "412 with HEAD 404 as stored": Mutant(
        "lost", "swift.c",
        r"(\tp->outcome = SWIFT_TEMPORARY;\n)(\tif \(verdict == VERDICT_RETRY)",
        r"\tif (verdict == VERDICT_MISSING)\n"
        r'\t\treturn settle(p, SWIFT_STORED, VERDICT_DONE, "");\n\1\2',
        ("a", ("store", "PUT.head", "answer:412", 0))),
    "what is not found is gone": Mutant(
        "orphan", "swift.c", r"(\tgone &= )(!p->unheard)", r"\1true || \2",
        ("a", ("store", "PUT.head", "late", 0)),
        ("ab", ("store", "PUT.head", "late", 0))),
    "nothing withdrawn": Mutant(
        "orphan", "swift.c",
        r"(\tif \()p->exists == 0(\)\n\t\treturn;)", r"\1p != NULL\2",
        ("abf", ("behind", "dot.before", "answer:550 5.7.1 No")),
        ("ab", ("store", "PUT.sent", "answer:503", 0))),
    "it ends with a signal": Mutant(
        "crash", "deliver.c", r"(\tif \(d->nplaces == 0\)\n)"
        r"(\t\treturn &reply_f)", r"\tabort();\n\1\2",
        ("a",), ("f",), entry="postfix"),
    "names of seconds and process ids": Mutant(
        "clash", "object.c", r"when->tv_sec, when->tv_nsec / 1000(, [^;]*)"
        r"random\)", r"0, 0L\1(uint64_t)0)", ("a",), ("a",), entry="pids"),
    "spam is stored": Mutant(
        "verdict", "scan.c", r'\t{ "reject", &reply_spam },\n', "",
        ("a",), ("abf",), rspamd="asked", verdict="reject"),
    "no verdict, no mail": Mutant(
        "verdict", "scan.c", r"(rspamd_required) \? (&reply_try_later)",
        r"\1 || true ? \2", ("a", ("rspamd", "POST.head", "cut")),
        ("ab", ("rspamd", "POST.answer", "garble")), rspamd="asked"),
    "any certificate will do": Mutant(
        "stranger", "lib/http.c", r"(VERIFYPEER, o->insecure \? 0L :) 1L",
        r"\1 0L", ("a", ("store", "TLS.hello", "stranger", 0)), tls=True),
    "a token that is refused is the last": Mutant(
        "needless", "swift.c", r"(verdict == VERDICT_LOGIN) && !p->fresh",
        r"\1 && p->account->token_file == NULL", ("a", ("token", "foreign")),
        token_file=True),
}
