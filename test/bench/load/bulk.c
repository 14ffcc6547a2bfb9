// Pairs at full speed: `bulk` measures them, `stall` leaves them stalled.

#include "load.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// Much longer than needed; a peer that loses bytes ends the run with an error message.
static const double DELIVERY_TIMEOUT_SECONDS = 20;

// If no byte has moved for this time, all buffers are full.
static const double STALLED_SECONDS = 0.5;

static int epoll;
static int count; // of connections; pairs are neighbours
static struct connection *connections;

static void watch(struct connection *connection, bool receiving) {
  uint32_t interest = 0;
  if (connection->receives && receiving && !connection->finished) interest |= EPOLLIN;
  if (connection->sends || has_unsent(connection)) interest |= EPOLLOUT;
  if (interest == connection->interest) return;
  connection->interest = interest;
  struct epoll_event event = {.events = interest, .data.ptr = connection};
  if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
}

// Returns the socket on which the generator listens; -1 if the peer pairs clients.
static int open_pairs(const struct options *options) {
  int listener = options->sink == 0 ? -1 : listen_on(options->sink);
  prepare_streams();
  epoll = epoll_create1(0);
  count = 2 * options->pairs;
  connections = calloc(count, sizeof *connections);
  for (int i = 0; i < count; i += 2) {
    open_pair(options, listener, &connections[i], &connections[i + 1]);
    connections[i].sends = connections[i + 1].receives = true;
    connections[i].receives = connections[i + 1].sends = options->both;
  }
  for (int i = 0; i < count; i++) {
    struct epoll_event event = {.data.ptr = &connections[i]};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
  }
  return listener;
}

static void watch_all(bool receiving) {
  for (int i = 0; i < count; i++) watch(&connections[i], receiving);
}

// One turn: at most one read and one write for each connection that is ready.
static void turn(void) {
  struct epoll_event events[256];
  int ready = epoll_wait(epoll, events, 256, 50);
  for (int i = 0; i < ready; i++) {
    struct connection *connection = events[i].data.ptr;
    if (events[i].events & EPOLLIN) receive_some(connection);
    if (events[i].events & EPOLLOUT) send_some(connection);
    if (events[i].events & (EPOLLERR | EPOLLHUP) && connection->interest == 0) connection->finished = true;
    if (connection->finished || !connection->sends) watch(connection, true);
  }
}

static void run_for(double seconds) {
  for (double end = now() + seconds; now() < end;) {
    turn();
    for (int i = 0; i < count; i++)
      if (connections[i].finished) die("the peer ended a pair that runs");
  }
}

static uint64_t total_received(void) {
  uint64_t total = 0;
  for (int i = 0; i < count; i++) total += connections[i].received;
  return total;
}

static bool all_delivered(void) {
  for (int i = 0; i < count; i++) {
    struct connection *connection = &connections[i];
    if (has_unsent(connection)) return false;
    if (connection->receives && connection->received != sent_payload(connection->partner)) return false;
  }
  return true;
}

static bool all_finished(void) {
  for (int i = 0; i < count; i++)
    if (connections[i].receives && !connections[i].finished) return false;
  return true;
}

// Every byte that was sent must arrive, and not one more before the end.
static void check_delivery(bool both) {
  for (int i = 0; i < count; i++) connections[i].sends = false;
  watch_all(true);
  double deadline = now() + DELIVERY_TIMEOUT_SECONDS;
  while (!all_delivered()) {
    if (now() > deadline) die("bytes are missing");
    turn();
  }
  for (int i = 0; i < count; i += 2) {
    const uint8_t close_frame[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    if (connections[i].transport == WEBSOCKET) send_all(&connections[i], close_frame, sizeof close_frame);
    if (connections[i].secure) tls_end(&connections[i]);
    shutdown(connections[i].fd, SHUT_WR);
  }
  if (both) return;
  while (!all_finished()) {
    if (now() > deadline) die("a pair does not end");
    turn();
  }
  if (!all_delivered()) die("more bytes were received than sent");
}

void run_bulk(const struct options *options) {
  int listener = open_pairs(options);
  struct ping_pong *ping_pong = options->ping_pong ? start_ping_pong(options, listener) : NULL;
  watch_all(true);
  run_for(options->warm_up);

  uint64_t *before = calloc(count, sizeof *before);
  for (int i = 0; i < count; i++) before[i] = connections[i].received;
  struct cpu before_cpu = cpu_of_peers(options);
  double started = now(), own_cpu = cpu_seconds(getpid());
  if (ping_pong != NULL) measure_ping_pong(ping_pong, true);
  run_for(options->seconds);
  double seconds = now() - started;
  struct cpu after_cpu = cpu_of_peers(options);
  own_cpu = cpu_seconds(getpid()) - own_cpu;
  if (ping_pong != NULL) measure_ping_pong(ping_pong, false);

  uint64_t bytes = 0, slowest = UINT64_MAX, fastest = 0;
  for (int i = 0; i < count; i += 2) {
    uint64_t pair = connections[i].received - before[i] + connections[i + 1].received - before[i + 1];
    bytes += pair;
    if (pair < slowest) slowest = pair;
    if (pair > fastest) fastest = pair;
  }
  check_delivery(options->both);
  printf("{\"seconds\":%.6f,\"bytes\":%lu,\"generatorCpuSeconds\":%.2f,\"slowestBytes\":%lu,\"fastestBytes\":%lu",
         seconds, (unsigned long)bytes, own_cpu, (unsigned long)slowest, (unsigned long)fastest);
  print_cpu(options, &before_cpu, &after_cpu);
  if (ping_pong != NULL) finish_ping_pong(ping_pong);
  print("}");
}

void run_stall(const struct options *options) {
  open_pairs(options);
  if (options->warm_up > 0) {
    watch_all(true);
    run_for(options->warm_up);
  }
  for (int i = 0; i < count; i++) connections[i].receives = false;
  watch_all(false);
  uint64_t sent = 0;
  for (double moved = now(); now() < moved + STALLED_SECONDS;) {
    turn();
    uint64_t total = 0;
    for (int i = 0; i < count; i++) total += connections[i].wire_bytes;
    if (total != sent) moved = now();
    sent = total;
  }
  printf("{\"sentBytes\":%lu,\"receivedBytes\":%lu}\n", (unsigned long)sent, (unsigned long)total_received());
  fflush(stdout);
  wait_for_input();
}
