"""Runs a command under a system call filter. Executes the command in the same process.

    seccomp.py locks -- COMMAND...       taking a file lock fails with ENOLCK, as on NFS without a lock manager
    seccomp.py memory -- COMMAND...      mapping a shared file of the size that SQLite uses fails with ENODEV, as on CIFS
                                         and FUSE with direct I/O
    seccomp.py unit UNIT -- COMMAND...   the filter of a systemd unit, as systemd would apply it (systemd.exec(5)):
                                         SystemCallFilter=, SystemCallErrorNumber=EPERM and RestrictAddressFamilies=
"""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import subprocess
import sys

ALLOW = 0x7FFF0000
DENY = 0x00050000
EQUALS = 4

# SQLite maps the shared memory of its log in pieces of this size.
PIECE_BYTES = 32768


class Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
    ]


class Filter:
    """A filter that is built rule by rule; `default` is the action for all other system calls."""

    def __init__(self, default):
        self.seccomp = ctypes.CDLL("libseccomp.so.2")
        self.seccomp.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.seccomp.seccomp_init(default))

    def add(self, action, name, arguments=()):
        """A rule for calls whose arguments, by index, have these values. Ignored if this architecture lacks the call."""
        number = self.seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        comparisons = (Comparison * len(arguments))(*(Comparison(at, EQUALS, value, 0) for at, value in arguments))
        added = self.seccomp.seccomp_rule_add_array(self.context, action, number, len(arguments), comparisons)
        assert added == 0, name

    def load(self):
        assert self.seccomp.seccomp_load(self.context) == 0, "cannot load the filter"


def file_system_filter(name, code, arguments):
    made = Filter(ALLOW)
    made.add(DENY | code, name, arguments)
    return made


def groups():
    """System calls by group of systemd, such as @system-service."""
    printed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    found = {}
    members = []
    for line in printed.splitlines():
        word = line.strip().removeprefix("# ")
        if line.startswith("@"):
            members = found.setdefault(word, [])
        elif line.startswith(" ") and word and not line.strip().startswith("#"):
            members.append(word)
    return found


def expand(words, known):
    for word in words:
        if word.startswith("@"):
            yield from expand(known[word], known)
        else:
            yield word


def settings(unit):
    with open(unit, encoding="utf8") as lines:
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                yield name, value


def unit_filter(unit):
    known = groups()
    allowed, families = set(), []
    for name, value in settings(unit):
        if name == "SystemCallFilter" and value.startswith("~"):
            allowed -= set(expand(value[1:].split(), known))
        elif name == "SystemCallFilter":
            allowed |= set(expand(value.split(), known))
        elif name == "RestrictAddressFamilies":
            families = [getattr(socket, family) for family in value.split()]
    assert allowed and families, "the unit has no restrictions"
    made = Filter(DENY | errno.EPERM)
    for name in sorted(allowed):
        if name != "socket":
            made.add(ALLOW, name)
            continue
        for family in families:
            made.add(ALLOW, name, [(0, family)])
    return made


def main():
    at = sys.argv.index("--")
    kind, *arguments = sys.argv[1:at]
    command = sys.argv[at + 1 :]
    if kind == "locks":
        made = file_system_filter("fcntl", errno.ENOLCK, [(1, fcntl.F_SETLK)])
    elif kind == "memory":
        made = file_system_filter("mmap", errno.ENODEV, [(1, PIECE_BYTES), (3, mmap.MAP_SHARED)])
    else:
        assert kind == "unit", kind
        made = unit_filter(*arguments)
    made.load()
    os.execvp(command[0], command)


main()
