// The limit of one core: accepts connections and forwards each one to a backend port, both ways.
//
//   epoll-forwarder PORT BACKEND_PORT BUFFER_BYTES
//
// One thread, one epoll loop, one buffer for all connections, one read per event. Bytes that a write does not accept
// are kept for that connection, and its sender is not read until they are written.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
  int fd;
  struct end *other;
  char *held; // bytes to be written to this end
  size_t held_from, held_bytes;
  struct end *next_dead;
};

static int epoll;
static char *buffer;
static size_t buffer_bytes;
static struct end *dead; // freed only after the batch of events that may still name them

static void die(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(struct end *end) {
  struct epoll_event event = {.data.ptr = end};
  if (end->other->held_bytes == 0) event.events |= EPOLLIN;
  if (end->held_bytes > 0) event.events |= EPOLLOUT;
  if (epoll_ctl(epoll, EPOLL_CTL_MOD, end->fd, &event) < 0) die("epoll_ctl");
}

static void bury(struct end *end) {
  close(end->fd);
  end->fd = -1;
  end->next_dead = dead;
  dead = end;
}

static void end_pair(struct end *end) {
  bury(end->other);
  bury(end);
}

static void read_from(struct end *end) {
  ssize_t got = read(end->fd, buffer, buffer_bytes);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return end_pair(end);
  struct end *to = end->other;
  ssize_t written = write(to->fd, buffer, got);
  if (written < 0 && errno != EAGAIN) return end_pair(end);
  if (written < 0) written = 0;
  if (written == got) return;
  to->held_from = 0;
  to->held_bytes = got - written;
  to->held = malloc(to->held_bytes);
  if (to->held == NULL) die("malloc");
  memcpy(to->held, buffer + written, to->held_bytes);
  watch(to);
  watch(end);
}

static void write_held(struct end *end) {
  ssize_t written = write(end->fd, end->held + end->held_from, end->held_bytes);
  if (written < 0 && errno == EAGAIN) return;
  if (written < 0) return end_pair(end);
  end->held_from += written;
  end->held_bytes -= written;
  if (end->held_bytes > 0) return;
  free(end->held);
  end->held = NULL;
  watch(end);
  watch(end->other);
}

static struct end *new_end(int fd) {
  struct end *end = calloc(1, sizeof *end);
  if (end == NULL) die("calloc");
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  end->fd = fd;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
  return end;
}

static void accept_one(int listener, int backend_port) {
  int client = accept(listener, NULL, NULL);
  if (client < 0) return;
  int backend = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = loopback(backend_port);
  if (connect(backend, (struct sockaddr *)&address, sizeof address) < 0) {
    close(backend);
    close(client);
    return;
  }
  struct end *left = new_end(client), *right = new_end(backend);
  left->other = right;
  right->other = left;
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: epoll-forwarder PORT BACKEND_PORT BUFFER_BYTES\n"), 2;
  int backend_port = atoi(argv[2]);
  buffer_bytes = strtoul(argv[3], NULL, 10);
  buffer = malloc(buffer_bytes);
  if (buffer == NULL) die("malloc");
  signal(SIGPIPE, SIG_IGN);

  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = loopback(atoi(argv[1]));
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
  if (listen(listener, 4096) < 0) die("listen");
  epoll = epoll_create1(0);
  struct epoll_event listening = {.events = EPOLLIN};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening) < 0) die("epoll_ctl");

  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      struct end *end = events[i].data.ptr;
      if (end == NULL) {
        accept_one(listener, backend_port);
        continue;
      }
      if (end->fd >= 0 && events[i].events & EPOLLOUT) write_held(end);
      // An error or a hang-up is reported whether it was asked for or not; a read or a write finds out.
      if (end->fd >= 0 && events[i].events & EPOLLIN) read_from(end);
      else if (end->fd >= 0 && events[i].events & (EPOLLERR | EPOLLHUP)) end_pair(end);
    }
    while (dead != NULL) {
      struct end *next = dead->next_dead;
      free(dead->held);
      free(dead);
      dead = next;
    }
  }
}
