// Clients that wait for partners that never connect.

#include "load.h"
#include <stdlib.h>
#include <unistd.h>

// Fewer than the shortest listen backlog among the peers, which is 50.
enum { UNSEEN_AT_MOST = 32 };

// A peer has accepted all clients that connected before one that it answers.
static void wait_until_seen(const struct options *options) {
  struct connection pair[2] = {0};
  open_pair(options, -1, &pair[0], &pair[1]);
  close(pair[0].fd);
  close(pair[1].fd);
}

void run_wait(const struct options *options) {
  struct connection *clients = calloc(options->pairs, sizeof *clients);
  for (int i = 0; i < options->pairs; i++) {
    open_waiting(options, &clients[i]);
    if (i % UNSEEN_AT_MOST == UNSEEN_AT_MOST - 1) wait_until_seen(options);
  }
  wait_until_seen(options);
  print("waiting");
  wait_for_input();
}
