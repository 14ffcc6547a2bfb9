"""Runs a command in its own terminal and prints its output.

Standard input has one action per line: `ctrl-c` types it, `term` and `hup` send a signal to the command's process, and
`close` closes the terminal. Orphans of the command become children of this process. When all have ended, it prints
their exit codes in the order in which they ended, -1 for SIGHUP. SIGTERM kills all of them.
"""

import ctypes
import os
import pty
import select
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.02

ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])


def act(action):
    if action == 'ctrl-c':
        os.write(terminal, b'\x03')
    elif action == 'term':
        os.kill(pid, signal.SIGTERM)
    elif action == 'hup':
        os.kill(pid, signal.SIGHUP)
    elif action == 'close':
        os.close(terminal)
        sources.discard(terminal)


def read(source):
    try:
        return os.read(source, 65536)
    except OSError:
        # No process has the terminal open.
        return b''


def kill_all(*_):
    while True:
        with open(f'/proc/self/task/{os.getpid()}/children') as file:
            children = file.read().split()
        if not children:
            sys.exit(1)
        for child in children:
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)


signal.signal(signal.SIGTERM, kill_all)
sources = {0, terminal}
codes = []
while True:
    for source in select.select(sources, [], [], POLL_SECONDS)[0]:
        data = read(source)
        if source == terminal:
            os.write(1, data)
        else:
            for line in data.decode().split():
                act(line)
        if not data:
            sources.discard(source)
    try:
        child, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        break
    if child != 0:
        codes.append(os.waitstatus_to_exitcode(status))
print()
print('ended with', *codes)
