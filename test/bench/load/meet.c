// Clients that connect one by one to waiting partners: time until `ok`.

#include "load.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Concurrent waiting clients; fewer than any listen backlog.
enum { BATCH = 32, MOST_MEETINGS = 1000000 };

// Time for a relay to register waiting clients and to acquire leases for their tokens, in microseconds.
enum { SETTLE_US = 20000 };

static void meet(struct connection *waiting, struct connection *coming, int port, unsigned token, float *seconds) {
  dial(coming, port);
  double started = now();
  say_handshake(coming, token, 2);
  expect_ok(coming);
  *seconds = now() - started;
  expect_ok(waiting);
  close(coming->fd);
  close(waiting->fd);
}

void run_meet(const struct options *options) {
  struct connection waiting[BATCH] = {0}, coming = {0};
  unsigned tokens[BATCH];
  float *seconds = malloc(MOST_MEETINGS * sizeof *seconds);
  size_t count = 0;
  double from = now() + options->warm_up, end = from + options->seconds;
  while (now() < end && count + BATCH <= MOST_MEETINGS) {
    bool measured = now() >= from;
    for (int i = 0; i < BATCH; i++) {
      tokens[i] = new_token();
      dial(&waiting[i], options->port);
      say_handshake(&waiting[i], tokens[i], 1);
    }
    usleep(SETTLE_US);
    for (int i = 0; i < BATCH; i++)
      meet(&waiting[i], &coming, options->other_port, tokens[i], &seconds[measured ? count++ : count]);
  }
  if (count == 0) die("nobody met");
  printf("{\"meetings\":%zu", count);
  print_times(seconds, count);
  say("}");
}
