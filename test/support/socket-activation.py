"""Does what systemd does for a .socket unit (sd_listen_fds(3)).

    socket-activation.py [--wrapped] SOCKET... -- COMMAND...

A SOCKET is NAME=tcp:ADDRESS, NAME=connected (a connected socket) or NAME=unix:PATH. Binds all sockets, prints their
ports as one line of JSON, and starts the command with them. After the command has ended, the next connection restarts
it. `--wrapped` starts the command through a shell, so that LISTEN_PID is the shell's.
"""

import json
import os
import select
import signal
import socket
import sys

FIRST_FD = 3


def bind(spec):
    kind, _, where = spec.partition(":")
    if kind == "connected":
        return socket.socketpair()[0]
    if kind == "unix":
        bound = socket.socket(socket.AF_UNIX)
        bound.bind("\0" + where[1:] if where.startswith("@") else where)
    else:
        bound = socket.socket(socket.AF_INET6 if ":" in where else socket.AF_INET)
        bound.bind((where, 0))
    bound.listen()
    return bound


def port_of(bound):
    name = bound.getsockname()
    return name[1] if isinstance(name, tuple) else None


def start(command, named, wrapped):
    pid = os.fork()
    if pid != 0:
        print(f"started {pid}", flush=True)
        return pid
    # Its own session, so that the processes that it starts are killed with it.
    os.setsid()
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(named))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in named)
    # To high numbers first: a socket may have the number that another one needs.
    spare = [os.dup2(bound.fileno(), 100 + place) for place, (_, bound) in enumerate(named)]
    for place, fd in enumerate(spare):
        os.dup2(fd, FIRST_FD + place, inheritable=True)
        os.close(fd)
    # The shell runs the last command in its own process, so this must not be the last one.
    line = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command] if wrapped else command
    os.execvp(line[0], line)


def main():
    arguments = sys.argv[1:]
    wrapped = arguments[0] == "--wrapped"
    cut = arguments.index("--")
    command = arguments[cut + 1 :]
    specs = [spec.partition("=") for spec in arguments[wrapped:cut]]
    named = [(name, bind(spec)) for name, _, spec in specs]
    print(json.dumps({"ports": {name: port_of(bound) for name, bound in named}}), flush=True)

    child = start(command, named, wrapped)

    def stop(*_):
        if child is not None:
            os.killpg(child, signal.SIGKILL)
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    while True:
        _, status = os.waitpid(child, 0)
        child = None
        print(f"ended with {os.waitstatus_to_exitcode(status)}", flush=True)
        select.select([bound for _, bound in named], [], [])
        child = start(command, named, wrapped)


main()
