# SPDX-License-Identifier: GPL-3.0-or-later
"""Mails through a real Postfix, one filter or another before its queue."""

import os
import pathlib
import pwd
import subprocess
import time

import lab
from lab import process

USER = "nobody"
RECIPIENT = "box@example.org"
OCTETS = 4096
SESSIONS = (1, 10, 50)
TURN_S = 1.5

SERVICE = """
127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_proxy_filter={filter}
  -o smtpd_proxy_options=speed_adjust
  -o smtpd_proxy_timeout=100s
"""
SPAWN = """\
{name} unix - n n - - spawn
  user={user} argv={argv}
"""


def busy_s():
    """Seconds that all processors have worked, for whomever; proc(5)."""
    with open("/proc/stat") as file:
        numbers = [int(word) for word in file.readline().split()[1:9]]
    idle, iowait = numbers[3:5]
    return (sum(numbers) - idle - iowait) / os.sysconf("SC_CLK_TCK")


def quiet():
    """The load average, and how busy others keep the processors just now."""
    before = busy_s()
    time.sleep(2)
    busy = (busy_s() - before) / 2 / os.cpu_count()
    return {"load average": os.getloadavg()[0], "busy with others": busy}


class Front:
    """A Postfix that has a port of its own for each filter."""

    def __init__(self, folder, binary):
        # Mail that no filter takes is queued, and thrown away.
        self._postfix = lab.Postfix(
            folder, binary, {}, [RECIPIENT], domains=(), main={
                "smtpd_client_connection_count_limit": 100,
                "transport_maps": "inline:{ example.org=discard: }",
                "relay_domains": "example.org"})
        self._ports = {}

    @property
    def log(self):
        """What swiftdrop's log is set to."""
        return f"postlog:{self._postfix.queue_directory}/swiftdrop/log"

    def add(self, name, argv=None, path=None):
        """A filter: started for each mail, or at a socket; or neither."""
        self._ports[name] = process.free_port()
        service = name.replace(" ", "-").replace(",", "")
        where = (f"unix:private/{service}" if argv
                 else f"unix:{path}" if path else "")
        text = SERVICE.format(port=self._ports[name], filter=where)
        if argv:
            text += SPAWN.format(name=service, user=USER, argv=" ".join(argv))
        path = self._postfix.configuration / "master.cf"
        path.write_text(path.read_text() + text)
        # A daemon sleeps until its configuration is older than a second.
        os.utime(path, (time.time() - 60,) * 2)

    @property
    def names(self):
        return self._ports

    def start(self):
        self._postfix.start()

    def stop(self):
        self._postfix.stop()

    def settle(self):
        """Waits until what was accepted without a filter is thrown away."""
        self._postfix.wait_for_empty_queue()

    def send(self, name, mails, sessions):
        """Sends them; mails a second, and ms of CPU a mail, of everything."""
        used, started = busy_s(), time.monotonic()
        done = subprocess.run(
            ["smtp-source", "-s", str(sessions), "-m", str(mails),
             "-l", str(OCTETS), "-f", "sender@client.example",
             "-t", RECIPIENT, f"127.0.0.1:{self._ports[name]}"])
        if done.returncode != 0:
            raise SystemExit(f"{name}: a mail was refused; the log ends:\n"
                             + process.tail(self._postfix.log))
        took = time.monotonic() - started
        return mails / took, (busy_s() - used) * 1000 / mails


class Rival:
    """bench/filter.py, which runs all the time."""

    def __init__(self, ini):
        self.socket = ini + ".socket"
        self._log = ini + ".log"
        self._argv = ["/usr/bin/python3",
                      pathlib.Path(__file__).with_name("filter.py"),
                      self.socket, ini]

    def start(self):
        self._process = process.start(self._argv, self._log)
        process.wait_until(lambda: os.path.exists(self.socket), self._process,
                           "bench/filter.py", self._log)

    def stop(self):
        process.stop(self._process)

    def peak_kib(self):
        with open(f"/proc/{self._process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file
                        if line.startswith("VmHWM"))


def ini(path, log, account, **smtp):
    """Writes a swiftdrop.ini that the filter's user alone can read."""
    path.write_text(lab.ini_text({
        "SMTP": {"hostname": "bench.example", "log": log, **smtp},
        "box": {"recipients": "*", **account}}))
    path.chmod(0o600)
    os.chown(path, pwd.getpwnam(USER).pw_uid, -1)
    return str(path)


def measure(add, front, names, rounds, slow=()):
    """Each round everything takes its turn; add(value, *names) keeps it.

    A turn is as many mails as the filter takes in TURN_S, but one for each
    session at least. Those that are slow take part in every other round.
    Returns how many mails each filter was sent.
    """
    sent = dict.fromkeys(names, 0)
    rates = {}

    def turn(name, sessions, mails):
        mails = max(int(mails), sessions)
        sent[name] += mails
        rates[name, sessions], cpu = front.send(name, mails, sessions)
        return rates[name, sessions], cpu

    for sessions in SESSIONS:
        for name in names:
            turn(name, sessions, 0 if name in slow else 20)
    for number in range(rounds):
        for sessions in SESSIONS:
            for name in names:
                if name in slow and number % 2:
                    continue
                rate, cpu = turn(name, sessions,
                                 rates[name, sessions] * TURN_S)
                add(rate, name, str(sessions), "mails/s")
                add(cpu, name, str(sessions), "CPU")
                if name == "no filter":
                    front.settle()
    return sent
