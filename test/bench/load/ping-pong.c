// One more pair, in a thread of its own: round trips of a small message.

#include "load.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PING_BYTES = 1024, MOST_ROUND_TRIPS = 4000000 };

struct ping_pong {
  struct connection ends[2];
  pthread_t thread;
  atomic_bool measuring, over;
  size_t count;
  float *seconds;
};

static void pass(const struct connection *from, const struct connection *to) {
  char message[PING_BYTES] = {0};
  if (send(from->fd, message, sizeof message, 0) != sizeof message) die("ping-pong: %s", strerror(errno));
  if (recv(to->fd, message, sizeof message, MSG_WAITALL) != sizeof message) die("ping-pong: %s", strerror(errno));
}

static void *play(void *argument) {
  struct ping_pong *ping_pong = argument;
  // It shares a core with the bulk senders, whose time slices it must not measure.
  struct sched_param priority = {.sched_priority = 1};
  pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority);
  while (!ping_pong->over) {
    bool measuring = ping_pong->measuring;
    double started = now();
    pass(&ping_pong->ends[0], &ping_pong->ends[1]);
    pass(&ping_pong->ends[1], &ping_pong->ends[0]);
    if (measuring && ping_pong->count < MOST_ROUND_TRIPS) ping_pong->seconds[ping_pong->count++] = now() - started;
  }
  return NULL;
}

struct ping_pong *start_ping_pong(const struct options *options, int listener) {
  struct ping_pong *ping_pong = calloc(1, sizeof *ping_pong);
  ping_pong->seconds = malloc(MOST_ROUND_TRIPS * sizeof *ping_pong->seconds);
  open_pair(options, listener, &ping_pong->ends[0], &ping_pong->ends[1]);
  int failed = pthread_create(&ping_pong->thread, NULL, play, ping_pong);
  if (failed != 0) die("pthread_create: %s", strerror(failed));
  return ping_pong;
}

void measure_ping_pong(struct ping_pong *ping_pong, bool on) {
  ping_pong->measuring = on;
}

static int by_value(const void *left, const void *right) {
  float a = *(const float *)left, b = *(const float *)right;
  return (a > b) - (a < b);
}

void print_times(float *seconds, size_t count) {
  qsort(seconds, count, sizeof *seconds, by_value);
  printf(",\"p50Seconds\":%.6f,\"p99Seconds\":%.6f,\"maxSeconds\":%.6f", seconds[count / 2],
         seconds[count * 99 / 100], seconds[count - 1]);
}

void finish_ping_pong(struct ping_pong *ping_pong) {
  ping_pong->over = true;
  pthread_join(ping_pong->thread, NULL);
  size_t count = ping_pong->count;
  if (count == 0) die("not one round trip");
  printf(",\"roundTrips\":%zu", count);
  print_times(ping_pong->seconds, count);
}
