// Clients that connect, are paired, and disconnect: repeatedly (`cycles`), or all at once (`burst`).

#include "load.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// The first retry of a SYN is after one second.
static const double RETRIED_SECONDS = 0.9;

struct client {
  int fd, side, port;
  unsigned token;
  struct client *partner;
  enum { CONNECTING, HANDSHAKING, PAIRED, CLOSED } state;
  double started, connected, paired;
};

static int epoll;

static void send_handshake(struct client *client) {
  char line[128];
  write_handshake(line, client->token, client->side);
  ssize_t length = strlen(line);
  if (send(client->fd, line, length, 0) != length) die("no connection: %s", strerror(errno));
  client->state = HANDSHAKING;
  client->connected = now();
}

static void start(struct client *client) {
  client->started = now();
  client->state = CONNECTING;
  bool connected = start_connecting(client->fd, client->port) == 0;
  if (!connected && errno != EINPROGRESS) die("connect: %s", strerror(errno));
  if (connected) send_handshake(client);
  struct epoll_event event = {.events = connected ? EPOLLIN : EPOLLOUT, .data.ptr = client};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
}

static void disconnect(struct client *client) {
  close(client->fd);
  client->state = CLOSED;
}

// Handles an event. The client may be `PAIRED` or `CLOSED` afterwards.
static void step(struct client *client) {
  if (client->state == CONNECTING) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    send_handshake(client);
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
    return;
  }
  char got[8] = "";
  ssize_t length = recv(client->fd, got, sizeof got - 1, MSG_DONTWAIT);
  if (length < 0) {
    if (errno == EAGAIN) return;
    die("receive: %s", strerror(errno));
  }
  if (client->state == HANDSHAKING && strcmp(got, "ok\n") == 0) {
    client->state = PAIRED;
    client->paired = now();
  } else if (client->state == PAIRED && length == 0 && client->partner->state == CLOSED) {
    disconnect(client);
  } else {
    die("not ok, but %zd bytes: %s", length, got);
  }
}

static struct client *new_clients(const struct options *options) {
  struct client *clients = calloc(2 * options->pairs, sizeof *clients);
  epoll = epoll_create1(0);
  for (int i = 0; i < 2 * options->pairs; i++) {
    clients[i].side = i % 2;
    clients[i].port = options->port;
    clients[i].partner = &clients[i ^ 1];
  }
  return clients;
}

// A random choice, with the same sequence each time.
static void choose_port(const struct options *options, struct client *client) {
  if (options->ports.count > 0) client->port = options->ports.items[random() % options->ports.count];
}

static void prepare(struct client *client, unsigned token) {
  client->token = token;
  client->fd = new_socket(false);
}

void run_cycles(const struct options *options) {
  struct client *clients = new_clients(options);
  unsigned token = 0;
  for (int i = 0; i < 2 * options->pairs; i++) {
    choose_port(options, &clients[i]);
    prepare(&clients[i], i % 2 == 0 ? ++token : token);
    start(&clients[i]);
  }
  unsigned long cycles = 0, on_two_relays = 0, retried = 0;
  struct cpu cpu = {0};
  double measured_from = now() + options->warm_up, started = 0, own_cpu = 0;
  while (started == 0 || now() < started + options->seconds) {
    if (started == 0 && now() >= measured_from) {
      started = now();
      cpu = cpu_of_peers(options);
      own_cpu = cpu_seconds(getpid());
      cycles = on_two_relays = 0;
    }
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, 50);
    for (int i = 0; i < ready; i++) {
      struct client *client = events[i].data.ptr, *partner = client->partner;
      // Its partner may have begun the next cycle for both in the same batch of events.
      if (client->state == CLOSED) continue;
      step(client);
      if (client->state == PAIRED && partner->state == PAIRED) disconnect(client);
      if (client->state != CLOSED || partner->state != CLOSED) continue;
      cycles++;
      if (client->port != partner->port) on_two_relays++;
      if (client->connected - client->started >= RETRIED_SECONDS) retried++;
      if (partner->connected - partner->started >= RETRIED_SECONDS) retried++;
      token++;
      choose_port(options, client);
      choose_port(options, partner);
      prepare(client, token);
      prepare(partner, token);
      start(client);
      start(partner);
    }
  }
  double seconds = now() - started;
  struct cpu cpu_after = cpu_of_peers(options);
  printf("{\"seconds\":%.6f,\"pairs\":%lu,\"onTwoRelays\":%lu,\"generatorCpuSeconds\":%.2f,\"retried\":%lu", seconds, cycles,
         on_two_relays, cpu_seconds(getpid()) - own_cpu, retried);
  print_cpu(options, &cpu, &cpu_after);
  print("}");
}

void run_burst(const struct options *options) {
  struct client *clients = new_clients(options);
  int count = 2 * options->pairs;
  for (int i = 0; i < count; i++) prepare(&clients[i], i / 2);
  double started = now();
  for (int i = 0; i < count; i++) start(&clients[i]);
  int paired = 0;
  while (paired < count && now() < started + options->seconds) {
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, 50);
    for (int i = 0; i < ready; i++) {
      struct client *client = events[i].data.ptr;
      step(client);
      if (client->state == PAIRED) paired++;
    }
  }
  double seconds = now() - started, slowest = 0;
  int retried = 0;
  for (int i = 0; i < count; i++) {
    // Unfinished clients count with the whole time.
    struct client *client = &clients[i];
    double connected = client->state == CONNECTING ? now() : client->connected;
    double paired_at = client->state == PAIRED ? client->paired : now();
    if (connected - client->started > slowest) slowest = connected - client->started;
    if (paired_at - client->started >= RETRIED_SECONDS) retried++;
  }
  printf("{\"seconds\":%.6f,\"slowestConnectSeconds\":%.6f,\"retried\":%d,\"unpaired\":%d}\n", seconds, slowest,
         retried, count - paired);
}
