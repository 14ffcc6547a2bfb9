"""The log of the mailbox server: its start, its end and errors.

Other lines contain addresses of clients and names of mailboxes. So does the name of the system that an error comes from.
"""

import sys

from twisted.internet import reactor
from twisted.logger import FileLogObserver, FilteringLogObserver, LogLevel, PredicateResult, eventAsText


def _without_clients(event):
    if event["log_level"] >= LogLevel.error:
        return PredicateResult.yes
    # The server itself logs in the legacy form. At its start, it lists the mailboxes in its database.
    if reactor.running or event["log_namespace"] == "log_legacy":
        return PredicateResult.no
    return PredicateResult.yes


def _format(event):
    return eventAsText(event, includeSystem=False) + "\n"


def observer():
    return FilteringLogObserver(FileLogObserver(sys.stdout, _format), [_without_clients])
