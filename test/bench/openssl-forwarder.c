// The limit of one core for TLS: pairs connections with the same token, as a relay does, and forwards their bytes.
//
//   openssl-forwarder PLAIN_PORT TLS_PORT KEY CERTIFICATE
//
// One thread, one epoll loop. Each event causes one read of up to 256 KiB and one write: OpenSSL works in memory, on buffers
// that all connections share. Bytes that a write does not accept are kept for that connection, and its partner is not read
// until they are written.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

// A write may contain one record more than the read, and framing for each record.
enum { READ_BYTES = 256 * 1024, BUFFER_BYTES = 384 * 1024, TOKEN_BYTES = 64 };

struct end {
  int fd;
  SSL *ssl; // NULL: none
  struct end *other;
  char token[TOKEN_BYTES + 1];
  char *held; // bytes to be written to this end
  size_t held_from, held_bytes;
  struct end *next; // of those that wait, or of those that are dead
};

struct buffer {
  char bytes[BUFFER_BYTES];
  size_t length;
};

static int epoll;
static SSL_CTX *context;
static BIO_METHOD *memory;
static struct buffer plaintext, outgoing;
static char incoming[READ_BYTES + 1]; // a line ends in a zero
static size_t incoming_at, incoming_bytes;
static struct end *waiting;
static struct end *dead; // freed only after the batch of events that may still name them
static struct end plain_listener, tls_listener;

static void die(const char *what) {
  perror(what);
  ERR_print_errors_fp(stderr);
  exit(1);
}

// OpenSSL always consumes everything that was last read from the socket.
static int take_incoming(BIO *bio, char *to, int length) {
  BIO_clear_retry_flags(bio);
  size_t left = incoming_bytes - incoming_at;
  if (left == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  if ((size_t)length > left) length = left;
  memcpy(to, incoming + incoming_at, length);
  incoming_at += length;
  return length;
}

static int put_outgoing(BIO *bio, const char *bytes, int length) {
  (void)bio;
  if (outgoing.length + length > sizeof outgoing.bytes) return -1;
  memcpy(outgoing.bytes + outgoing.length, bytes, length);
  outgoing.length += length;
  return length;
}

static long control(BIO *bio, int command, long number, void *pointer) {
  (void)bio, (void)number, (void)pointer;
  return command == BIO_CTRL_FLUSH;
}

static void set_up_tls(const char *key, const char *certificate) {
  memory = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "shared buffers");
  BIO_meth_set_read(memory, take_incoming);
  BIO_meth_set_write(memory, put_outgoing);
  BIO_meth_set_ctrl(memory, control);
  context = SSL_CTX_new(TLS_server_method());
  if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) die(key);
  if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1) die(certificate);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

static void watch(struct end *end, int operation) {
  struct epoll_event event = {.data.ptr = end};
  // A waiting client must not send more.
  if (end->other == NULL ? end->token[0] == '\0' : end->other->held_bytes == 0) event.events |= EPOLLIN;
  if (end->held_bytes > 0) event.events |= EPOLLOUT;
  if (epoll_ctl(epoll, operation, end->fd, &event) < 0) die("epoll_ctl");
}

static void stop_waiting(const struct end *end) {
  struct end **at = &waiting;
  while (*at != NULL && *at != end) at = &(*at)->next;
  if (*at != NULL) *at = end->next;
}

static void bury(struct end *end) {
  stop_waiting(end);
  close(end->fd);
  end->fd = -1;
  end->next = dead;
  dead = end;
}

static void end_pair(struct end *end) {
  if (end->other != NULL) bury(end->other);
  bury(end);
}

// False: the connection is lost.
static bool write_to(struct end *end, const char *bytes, size_t length) {
  ssize_t written = write(end->fd, bytes, length);
  if (written < 0 && errno != EAGAIN) return false;
  if (written < 0) written = 0;
  if ((size_t)written == length) return true;
  end->held_from = 0;
  end->held_bytes = length - written;
  end->held = malloc(end->held_bytes);
  if (end->held == NULL) die("malloc");
  memcpy(end->held, bytes + written, end->held_bytes);
  watch(end, EPOLL_CTL_MOD);
  if (end->other != NULL) watch(end->other, EPOLL_CTL_MOD);
  return true;
}

// Sends the records that OpenSSL made for that end.
static bool write_outgoing(struct end *end) {
  size_t length = outgoing.length;
  outgoing.length = 0;
  return length == 0 || write_to(end, outgoing.bytes, length);
}

static bool send_bytes(struct end *end, const char *bytes, size_t length) {
  if (end->ssl == NULL) return write_to(end, bytes, length);
  return SSL_write(end->ssl, bytes, length) == (int)length && write_outgoing(end);
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
  watch(end, EPOLL_CTL_MOD);
  if (end->other != NULL) watch(end->other, EPOLL_CTL_MOD);
}

// The load generator sends its line in one piece.
static void meet(struct end *end, char *line, size_t length) {
  line[length] = '\0';
  if (sscanf(line, "please relay %64s for side ", end->token) != 1) return end_pair(end);
  struct end *other = waiting;
  while (other != NULL && strcmp(other->token, end->token) != 0) other = other->next;
  if (other == NULL) {
    end->next = waiting;
    waiting = end;
    return watch(end, EPOLL_CTL_MOD);
  }
  stop_waiting(other);
  end->other = other;
  other->other = end;
  if (!send_bytes(end, "ok\n", 3) || !send_bytes(other, "ok\n", 3)) return end_pair(end);
  watch(other, EPOLL_CTL_MOD);
}

// Decrypts what was read. False: the connection is at its end.
static bool decrypt(struct end *end) {
  int got;
  while ((got = SSL_read(end->ssl, plaintext.bytes + plaintext.length, READ_BYTES)) > 0) plaintext.length += got;
  bool goes_on = SSL_get_error(end->ssl, got) == SSL_ERROR_WANT_READ;
  return write_outgoing(end) && goes_on;
}

static void read_from(struct end *end) {
  ssize_t got = read(end->fd, incoming, READ_BYTES);
  if (got < 0 && errno == EAGAIN) return;
  bool goes_on = got > 0;
  char *bytes = incoming;
  size_t length = goes_on ? got : 0;
  if (goes_on && end->ssl != NULL) {
    incoming_at = plaintext.length = 0;
    incoming_bytes = got;
    goes_on = decrypt(end);
    bytes = plaintext.bytes;
    length = plaintext.length;
  }
  if (length > 0 && end->other != NULL) goes_on = send_bytes(end->other, bytes, length) && goes_on;
  else if (length > 0 && goes_on) return meet(end, bytes, length);
  if (goes_on) return;
  if (end->other != NULL && end->other->ssl != NULL) {
    SSL_shutdown(end->other->ssl);
    write_outgoing(end->other);
  }
  end_pair(end);
}

static void accept_one(const struct end *listener) {
  int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK), one = 1;
  if (fd < 0) return;
  struct end *end = calloc(1, sizeof *end);
  if (end == NULL) die("calloc");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  end->fd = fd;
  if (listener == &tls_listener) {
    BIO *bio = BIO_new(memory);
    end->ssl = SSL_new(context);
    if (bio == NULL || end->ssl == NULL) die("SSL_new");
    BIO_set_init(bio, 1);
    SSL_set_bio(end->ssl, bio, bio);
    SSL_set_accept_state(end->ssl);
  }
  watch(end, EPOLL_CTL_ADD);
}

static void listen_on(struct end *listener, int port) {
  int one = 1;
  listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener->fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
  if (listen(listener->fd, 4096) < 0) die("listen");
  watch(listener, EPOLL_CTL_ADD);
}

static void serve(struct end *end, uint32_t events) {
  if (end == &plain_listener || end == &tls_listener) return accept_one(end);
  if (end->fd >= 0 && events & EPOLLOUT) write_held(end);
  // An error or a hang-up is reported whether it was asked for or not; a read or a write finds out.
  if (end->fd >= 0 && events & EPOLLIN) read_from(end);
  else if (end->fd >= 0 && events & (EPOLLERR | EPOLLHUP)) end_pair(end);
}

int main(int argc, char **argv) {
  if (argc != 5) return fprintf(stderr, "usage: openssl-forwarder PLAIN_PORT TLS_PORT KEY CERTIFICATE\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  set_up_tls(argv[3], argv[4]);
  epoll = epoll_create1(0);
  listen_on(&tls_listener, atoi(argv[2]));
  listen_on(&plain_listener, atoi(argv[1]));
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) serve(events[i].data.ptr, events[i].events);
    while (dead != NULL) {
      struct end *next = dead->next;
      SSL_free(dead->ssl);
      free(dead->held);
      free(dead);
      dead = next;
    }
  }
}
