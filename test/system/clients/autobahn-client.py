"""A client that uses Debian's python3-autobahn: sends its handshake, then sends and receives at the same time.

usage: autobahn-client.py URL HANDSHAKE SEED SEND_BYTES RECEIVE_BYTES

Sends SEND_BYTES from random.Random(SEED), in messages and fragments of various sizes with pings between them, and
closes when it has sent everything and received RECEIVE_BYTES. Prints one line of JSON at the end.
"""

import hashlib
import json
import random
import sys

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    connectWS,
)
from twisted.internet import reactor

URL, HANDSHAKE, SEED, SEND_BYTES, RECEIVE_BYTES = sys.argv[1:]
OK = b"ok\n"

# In bytes: around the limits of frames and of the relay's own messages.
MESSAGE_SIZES = [0, 1, 4, 24, 125, 126, 127, 16_400, 32_768, 32_769, 65_535, 65_536, 300_000]
FRAGMENT_SIZES = [1_000, 16_384, 65_535, 65_536, 100_001]


class Client(WebSocketClientProtocol):
    def onOpen(self):
        self.dice = random.Random(int(SEED))
        self.unsent = memoryview(self.dice.randbytes(int(SEND_BYTES)))
        self.report = {"sent": hashlib.sha256(self.unsent).hexdigest(), "pings": 0, "pongs": 0, "longest": 0}
        self.hash = hashlib.sha256()
        self.received = 0
        self.isPaired = False
        self.ping()
        self.sendMessage(HANDSHAKE.encode(), isBinary=True)

    def ping(self):
        self.report["pings"] += 1
        self.sendPing(self.dice.randbytes(self.dice.choice([0, 1, 124, 125])))

    def onPong(self, payload):
        self.report["pongs"] += 1

    def take(self, size):
        taken = bytes(self.unsent[:size])
        self.unsent = self.unsent[size:]
        return taken

    def sendSome(self):
        """Sends one message per turn of the event loop, so that receiving continues meanwhile."""
        if self.state != self.STATE_OPEN:
            return
        message = self.take(self.dice.choice(MESSAGE_SIZES))
        how = self.dice.randrange(3)
        if how == 0 or not message:
            self.sendMessage(message, isBinary=True)
        elif how == 1:
            self.sendMessage(message, isBinary=True, fragmentSize=max(self.dice.choice(FRAGMENT_SIZES), len(message) // 20))
        else:
            cut = self.dice.randrange(len(message))
            self.beginMessage(isBinary=True)
            self.sendMessageFrame(message[:cut])
            self.ping()
            self.sendMessageFrame(message[cut:])
            self.endMessage()
        if self.unsent:
            reactor.callLater(0, self.sendSome)
        else:
            self.closeWhenDone()

    def onMessage(self, payload, isBinary):
        assert isBinary
        self.report["longest"] = max(self.report["longest"], len(payload))
        if not self.isPaired:
            assert payload.startswith(OK), payload
            self.isPaired = True
            payload = payload[len(OK) :]
            self.sendSome()
        self.hash.update(payload)
        self.received += len(payload)
        self.closeWhenDone()

    def closeWhenDone(self):
        if not self.unsent and self.received == int(RECEIVE_BYTES):
            self.sendClose(1000)

    def onClose(self, wasClean, code, reason):
        received = self.hash.hexdigest()
        print(json.dumps({**self.report, "received": received, "wasClean": wasClean, "code": code, "reason": reason}))
        reactor.stop()


factory = WebSocketClientFactory(URL)
factory.protocol = Client
# Autobahn rounds timers to seconds: a timeout of one second, the default, could expire at once.
factory.setProtocolOptions(closeHandshakeTimeout=20, serverConnectionDropTimeout=20)
connectWS(factory, timeout=10)
reactor.run()
