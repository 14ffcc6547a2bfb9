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

struct visitor {
  int fd, side, port;
  unsigned token;
  struct visitor *partner;
  enum { CONNECTING, HANDSHAKING, PAIRED, GONE } state;
  double started, connected, paired;
};

static int epoll;

static void send_handshake(struct visitor *visitor) {
  char line[128];
  write_handshake(line, visitor->token, visitor->side);
  ssize_t length = strlen(line);
  if (send(visitor->fd, line, length, 0) != length) die("no connection: %s", strerror(errno));
  visitor->state = HANDSHAKING;
  visitor->connected = now();
}

static void set_out(struct visitor *visitor) {
  visitor->started = now();
  visitor->state = CONNECTING;
  bool connected = start_connecting(visitor->fd, visitor->port) == 0;
  if (!connected && errno != EINPROGRESS) die("connect: %s", strerror(errno));
  if (connected) send_handshake(visitor);
  struct epoll_event event = {.events = connected ? EPOLLIN : EPOLLOUT, .data.ptr = visitor};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, visitor->fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
}

static void leave(struct visitor *visitor) {
  close(visitor->fd);
  visitor->state = GONE;
}

// Takes one step; `PAIRED` or `GONE` may be the result.
static void step(struct visitor *visitor) {
  if (visitor->state == CONNECTING) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = visitor};
    send_handshake(visitor);
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, visitor->fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
    return;
  }
  char got[8] = "";
  ssize_t length = recv(visitor->fd, got, sizeof got - 1, MSG_DONTWAIT);
  if (length < 0) {
    if (errno == EAGAIN) return;
    die("receive: %s", strerror(errno));
  }
  if (visitor->state == HANDSHAKING && strcmp(got, "ok\n") == 0) {
    visitor->state = PAIRED;
    visitor->paired = now();
  } else if (visitor->state == PAIRED && length == 0 && visitor->partner->state == GONE) {
    leave(visitor);
  } else {
    die("not ok, but %zd bytes: %s", length, got);
  }
}

static struct visitor *new_visitors(const struct options *options) {
  struct visitor *visitors = calloc(2 * options->pairs, sizeof *visitors);
  epoll = epoll_create1(0);
  for (int i = 0; i < 2 * options->pairs; i++) {
    visitors[i].side = i % 2;
    visitors[i].port = options->port;
    visitors[i].partner = &visitors[i ^ 1];
  }
  return visitors;
}

// A random choice, with the same sequence each time.
static void choose_port(const struct options *options, struct visitor *visitor) {
  if (options->ports.count > 0) visitor->port = options->ports.items[random() % options->ports.count];
}

static void visit(struct visitor *visitor, unsigned token) {
  visitor->token = token;
  visitor->fd = new_socket(false);
}

void run_cycles(const struct options *options) {
  struct visitor *visitors = new_visitors(options);
  unsigned token = 0;
  for (int i = 0; i < 2 * options->pairs; i++) {
    choose_port(options, &visitors[i]);
    visit(&visitors[i], i % 2 == 0 ? ++token : token);
    set_out(&visitors[i]);
  }
  unsigned long cycles = 0, apart = 0, retried = 0;
  struct cpu cpu = {0};
  double measured_from = now() + options->warm_up, started = 0, own_cpu = 0;
  while (started == 0 || now() < started + options->seconds) {
    if (started == 0 && now() >= measured_from) {
      started = now();
      cpu = cpu_of_peers(options);
      own_cpu = cpu_seconds(getpid());
      cycles = apart = 0;
    }
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, 50);
    for (int i = 0; i < ready; i++) {
      struct visitor *visitor = events[i].data.ptr, *partner = visitor->partner;
      // Its partner, in the same batch, may have begun the next cycle for both.
      if (visitor->state == GONE) continue;
      step(visitor);
      if (visitor->state == PAIRED && partner->state == PAIRED) leave(visitor);
      if (visitor->state != GONE || partner->state != GONE) continue;
      cycles++;
      if (visitor->port != partner->port) apart++;
      if (visitor->connected - visitor->started >= RETRIED_SECONDS) retried++;
      if (partner->connected - partner->started >= RETRIED_SECONDS) retried++;
      token++;
      choose_port(options, visitor);
      choose_port(options, partner);
      visit(visitor, token);
      visit(partner, token);
      set_out(visitor);
      set_out(partner);
    }
  }
  double seconds = now() - started;
  struct cpu cpu_after = cpu_of_peers(options);
  printf("{\"seconds\":%.6f,\"pairs\":%lu,\"apart\":%lu,\"generatorCpuSeconds\":%.2f,\"retried\":%lu", seconds, cycles,
         apart, cpu_seconds(getpid()) - own_cpu, retried);
  print_cpu(options, &cpu, &cpu_after);
  say("}");
}

void run_burst(const struct options *options) {
  struct visitor *visitors = new_visitors(options);
  int count = 2 * options->pairs;
  for (int i = 0; i < count; i++) visit(&visitors[i], i / 2);
  double started = now();
  for (int i = 0; i < count; i++) set_out(&visitors[i]);
  int paired = 0;
  while (paired < count && now() < started + options->seconds) {
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, 50);
    for (int i = 0; i < ready; i++) {
      struct visitor *visitor = events[i].data.ptr;
      step(visitor);
      if (visitor->state == PAIRED) paired++;
    }
  }
  double seconds = now() - started, slowest = 0;
  int retried = 0;
  for (int i = 0; i < count; i++) {
    // Clients that are not finished have taken the whole time.
    struct visitor *visitor = &visitors[i];
    double connected = visitor->state == CONNECTING ? now() : visitor->connected;
    double paired_at = visitor->state == PAIRED ? visitor->paired : now();
    if (connected - visitor->started > slowest) slowest = connected - visitor->started;
    if (paired_at - visitor->started >= RETRIED_SECONDS) retried++;
  }
  printf("{\"seconds\":%.6f,\"slowestConnectSeconds\":%.6f,\"retried\":%d,\"unpaired\":%d}\n", seconds, slowest,
         retried, count - paired);
}
