// The limit of one core for pairs that are made and closed: accepts clients, matches them by token, answers `ok`, and
// closes the other client of a pair when one closes.
//
//   epoll-relay PORT
//
// One thread, one epoll loop. It forwards nothing: bytes after the handshake are discarded.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONGEST_LINE = 128, BUCKETS = 1 << 16, BACKLOG = 4096 };

struct client {
  int fd;
  struct client *partner;
  struct client *next; // that waits in the same bucket, or that has ended
  bool waits;
  size_t length;
  char line[LONGEST_LINE + 1], token[LONGEST_LINE + 1];
};

static int epoll;
static struct client *waiting[BUCKETS];
static struct client *dead; // freed only after the batch of events that may still name them

static void die(const char *what) {
  perror(what);
  exit(1);
}

// FNV-1a
static struct client **bucket_of(const char *token) {
  uint32_t hash = 2166136261u;
  for (; *token != '\0'; token++) hash = (hash ^ (uint8_t)*token) * 16777619u;
  return &waiting[hash % BUCKETS];
}

static void stop_waiting(struct client *client) {
  struct client **at = bucket_of(client->token);
  while (*at != client) at = &(*at)->next;
  *at = client->next;
  client->waits = false;
}

static void end(struct client *client) {
  if (client->waits) stop_waiting(client);
  close(client->fd);
  client->fd = -1;
  client->next = dead;
  dead = client;
}

static void end_with_partner(struct client *client) {
  if (client->partner != NULL) end(client->partner);
  end(client);
}

static void match(struct client *client) {
  struct client **bucket = bucket_of(client->token), *partner = *bucket;
  while (partner != NULL && strcmp(partner->token, client->token) != 0) partner = partner->next;
  if (partner == NULL) {
    client->waits = true;
    client->next = *bucket;
    *bucket = client;
    return;
  }
  stop_waiting(partner);
  client->partner = partner;
  partner->partner = client;
  if (write(partner->fd, "ok\n", 3) != 3 || write(client->fd, "ok\n", 3) != 3) end_with_partner(client);
}

static void read_line(struct client *client) {
  ssize_t got = read(client->fd, client->line + client->length, LONGEST_LINE - client->length);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return end(client);
  client->length += got;
  if (memchr(client->line, '\n', client->length) == NULL && client->length < LONGEST_LINE) return;
  char side[LONGEST_LINE];
  if (sscanf(client->line, "please relay %s for side %s\n", client->token, side) != 2) return end(client);
  match(client);
}

static void discard(struct client *client) {
  char bytes[4096];
  ssize_t got = read(client->fd, bytes, sizeof bytes);
  if (got == 0 || (got < 0 && errno != EAGAIN)) end_with_partner(client);
}

static void accept_all(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) die("calloc");
    client->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
  }
  if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

int main(int argc, char **argv) {
  if (argc != 2) return fprintf(stderr, "usage: epoll-relay PORT\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
  if (listen(listener, BACKLOG) < 0) die("listen");
  epoll = epoll_create1(0);
  struct epoll_event listening = {.events = EPOLLIN};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening) < 0) die("epoll_ctl");

  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      struct client *client = events[i].data.ptr;
      if (client == NULL) accept_all(listener);
      else if (client->fd < 0) continue;
      else if (client->waits || client->partner != NULL) discard(client);
      else read_line(client);
    }
    while (dead != NULL) {
      struct client *next = dead->next;
      free(dead);
      dead = next;
    }
  }
}
