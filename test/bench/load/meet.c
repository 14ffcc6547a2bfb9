// Clients that connect one by one to waiting partners: time until `ok`.

#include "load.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Concurrent waiting clients; fewer than any listen backlog.
enum { BATCH = 32, MAX_PAIRS = 1000000 };

// Time for a relay to register waiting clients and to acquire leases for their tokens, in microseconds.
enum { SETTLE_US = 20000 };

static void measure_pair(struct connection *waiting, struct connection *second, int port, unsigned token, float *seconds) {
  dial(second, port);
  double started = now();
  send_line(second, token, 2);
  expect_ok(second);
  *seconds = now() - started;
  expect_ok(waiting);
  close(second->fd);
  close(waiting->fd);
}

void run_latency(const struct options *options) {
  struct connection waiting[BATCH] = {0}, second = {0};
  unsigned tokens[BATCH];
  float *seconds = malloc(MAX_PAIRS * sizeof *seconds);
  size_t count = 0;
  double from = now() + options->warm_up, end = from + options->seconds;
  while (now() < end && count + BATCH <= MAX_PAIRS) {
    bool measured = now() >= from;
    for (int i = 0; i < BATCH; i++) {
      tokens[i] = new_token();
      dial(&waiting[i], options->port);
      send_line(&waiting[i], tokens[i], 1);
    }
    usleep(SETTLE_US);
    for (int i = 0; i < BATCH; i++)
      measure_pair(&waiting[i], &second, options->other_port, tokens[i], &seconds[measured ? count++ : count]);
  }
  if (count == 0) die("no client was paired");
  printf("{\"pairs\":%zu", count);
  print_times(seconds, count);
  print("}");
}
