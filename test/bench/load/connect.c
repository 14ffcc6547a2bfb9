// Connects clients to the peer and pairs them.

#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

// Much longer than any peer needs; a run that hangs ends with an error message.
enum { SET_UP_TIMEOUT_SECONDS = 20 };

// Ports of one source address run out when ended connections linger in TIME_WAIT.
enum { SOURCE_ADDRESSES = 250 };

// In network byte order.
static in_addr_t host;
static int buffer_bytes;

void connect_to(const char *address) {
  if (inet_pton(AF_INET, address, &host) != 1) die("%s is no IPv4 address", address);
}

void use_buffers(int bytes) {
  buffer_bytes = bytes;
}

static void set_buffers(int fd) {
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer_bytes, sizeof buffer_bytes) < 0)
    die("buffers: %s", strerror(errno));
}

int new_socket(bool blocking) {
  static unsigned count;
  int fd = socket(AF_INET, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0), one = 1;
  if (fd < 0) die("socket: %s", strerror(errno));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  if (blocking) {
    struct timeval timeout = {.tv_sec = SET_UP_TIMEOUT_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  }
  if (buffer_bytes > 0) set_buffers(fd);
  if (host != 0) return fd;
  struct sockaddr_in source = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f000101 + count++ % SOURCE_ADDRESSES)};
  if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0) die("bind: %s", strerror(errno));
  return fd;
}

int start_connecting(int fd, int port) {
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = host != 0 ? host : htonl(INADDR_LOOPBACK)};
  return connect(fd, (struct sockaddr *)&address, sizeof address);
}

int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct timeval timeout = {.tv_sec = SET_UP_TIMEOUT_SECONDS};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind: %s", strerror(errno));
  if (listen(fd, 4096) < 0) die("listen: %s", strerror(errno));
  return fd;
}

void send_all(const struct connection *connection, const void *bytes, size_t length) {
  if (connection->secure) {
    tls_send(connection, bytes, length);
    if (tls_unsent(connection)) die("the peer does not read what comes before the stream");
  } else if (send(connection->fd, bytes, length, 0) != (ssize_t)length) {
    die("send: %s", strerror(errno));
  }
}

void receive_all(const struct connection *connection, void *to, size_t length) {
  if (!connection->secure) {
    if (recv(connection->fd, to, length, MSG_WAITALL) != (ssize_t)length) die("receive: %s", strerror(errno));
    return;
  }
  for (size_t at = 0; at < length;) {
    ssize_t got = tls_receive(connection, (uint8_t *)to + at, length - at);
    if (got == 0) die("the peer ended the connection");
    if (got > 0) {
      at += got;
      continue;
    }
    struct pollfd poll_for = {.fd = connection->fd, .events = POLLIN};
    if (errno != EAGAIN || poll(&poll_for, 1, SET_UP_TIMEOUT_SECONDS * 1000) != 1) die("receive: %s", strerror(errno));
  }
}

void dial(struct connection *connection, int port) {
  connection->fd = new_socket(true);
  if (start_connecting(connection->fd, port) < 0) die("connect: %s", strerror(errno));
  if (connection->secure) tls_connect(connection);
}

void write_handshake(char *line, unsigned token, int side) {
  // The process id distinguishes concurrent generators.
  sprintf(line, "please relay %032x%032x for side %016x\n", (unsigned)getpid(), token, (unsigned)side);
}

void send_line(const struct connection *connection, unsigned token, int side) {
  char line[128];
  uint8_t frame[160];
  write_handshake(line, token, side);
  if (connection->transport == TCP) return send_all(connection, line, strlen(line));
  websocket_upgrade(connection);
  send_all(connection, frame, websocket_frame(frame, line, strlen(line)));
}

static void dial_relay(struct connection *connection, int port, unsigned token, int side) {
  dial(connection, port);
  send_line(connection, token, side);
}

void expect_ok(const struct connection *connection) {
  const char *expected = connection->transport == TCP ? "ok\n" : "\x82\x03ok\n";
  size_t length = strlen(expected);
  char got[8] = "";
  receive_all(connection, got, length);
  if (memcmp(got, expected, length) != 0) die("not ok: %s", got);
}

unsigned new_token(void) {
  static unsigned token;
  return ++token;
}

void open_waiting(const struct options *options, struct connection *connection) {
  connection->transport = options->from;
  connection->secure = options->from_tls;
  dial_relay(connection, options->port, new_token(), 1);
}

// Connections to a forwarding peer are opened one after the other, so that the pairs are known.
void open_pair(const struct options *options, int listener, struct connection *first, struct connection *second) {
  first->partner = second;
  second->partner = first;
  first->transport = options->from;
  second->transport = options->to;
  first->secure = options->from_tls;
  second->secure = options->to_tls;
  if (listener >= 0) {
    dial(first, options->port);
    second->fd = accept(listener, NULL, NULL);
    if (second->fd < 0) die("nothing was forwarded: %s", strerror(errno));
    second->frames.from_client = true;
    return;
  }
  unsigned token = new_token();
  dial_relay(first, options->port, token, 1);
  dial_relay(second, options->other_port, token, 2);
  expect_ok(second);
  expect_ok(first);
}
