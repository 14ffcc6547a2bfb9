"""Runs a command under the system call filter of a systemd unit, as systemd would (systemd.exec(5)).

    syscall-filter.py UNIT -- COMMAND...

Supports SystemCallFilter=, SystemCallErrorNumber=EPERM and RestrictAddressFamilies=. Executes the command in the same
process.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys

ALLOW = 0x7FFF0000
DENY = 0x00050000
EQUALS = 4


class Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
    ]


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


def main():
    unit, dashes, *command = sys.argv[1:]
    assert dashes == "--"
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

    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(DENY | errno.EPERM))
    for name in sorted(allowed):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        # This architecture does not have it.
        if number < 0:
            continue
        if name != "socket":
            assert seccomp.seccomp_rule_add(context, ALLOW, number, 0) == 0, name
            continue
        for family in families:
            only = Comparison(0, EQUALS, family, 0)
            assert seccomp.seccomp_rule_add_array(context, ALLOW, number, 1, ctypes.byref(only)) == 0, family
    assert seccomp.seccomp_load(context) == 0, "cannot load the filter"
    os.execvp(command[0], command)


main()
