"""Runs a command without a feature of file systems that SQLite needs. Other file operations work.

    broken-file-system.py locks|memory -- COMMAND...

locks: taking a file lock fails with ENOLCK, as on NFS without a lock manager.
memory: mapping a shared file of the size that SQLite uses fails with ENODEV, as on CIFS and FUSE with direct I/O.
Executes the command in the same process.
"""

import ctypes
import errno
import fcntl
import mmap
import os
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


RULES = {
    "locks": (b"fcntl", errno.ENOLCK, [(1, fcntl.F_SETLK)]),
    "memory": (b"mmap", errno.ENODEV, [(1, PIECE_BYTES), (3, mmap.MAP_SHARED)]),
}


def main():
    kind, dashes, *command = sys.argv[1:]
    assert dashes == "--"
    name, code, arguments = RULES[kind]
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ALLOW))
    number = seccomp.seccomp_syscall_resolve_name(name)
    comparisons = (Comparison * len(arguments))(*(Comparison(at, EQUALS, value, 0) for at, value in arguments))
    assert seccomp.seccomp_rule_add_array(context, DENY | code, number, len(arguments), comparisons) == 0, name
    assert seccomp.seccomp_load(context) == 0, "cannot load the filter"
    os.execvp(command[0], command)


main()
