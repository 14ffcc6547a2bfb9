// One load generator for every scenario; see main.c for its modes.

#ifndef LOAD_H
#define LOAD_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum transport { TCP, WEBSOCKET };

// Three relays and their coordinator.
enum { MOST_PROCESSES = 4 };

struct list {
  int count, items[MOST_PROCESSES];
};

// Seconds, of some processes together and of each of them.
struct cpu {
  double all, each[MOST_PROCESSES];
};

struct options {
  int port, other_port; // of the peer, for the first client of a pair and for the second
  struct list ports;  // in the mode `cycles`, each client uses a random one of these; none: `port`
  int sink;           // port to which the peer forwards, on which the generator listens; 0 if the peer pairs clients
  enum transport from, to;
  bool from_tls, to_tls;
  int pairs;          // or clients, in the modes that do not pair them
  bool both;          // bytes flow both ways
  bool ping_pong;     // one more pair, which exchanges small messages
  struct list pids;   // processes whose CPU time is measured; 0 for none
  double warm_up, seconds;
};

// Messages a WebSocket sender sends: 16 KiB each, as the clients do.
enum { MESSAGE_BYTES = 16384, FRAME_HEADER_BYTES = 8, FRAME_BYTES = FRAME_HEADER_BYTES + MESSAGE_BYTES };

// A deployed client fails on messages longer than this.
enum { LONGEST_MESSAGE = 32768 };

// Parses frames from bytes in any split.
struct frames {
  bool from_client; // without a peer, frames arrive masked, as they were sent
  uint8_t header[14];
  unsigned header_bytes;
  uint64_t payload_left, message_bytes;
  bool control, closed;
};

// What a connection needs for TLS; see tls.c.
struct tls;

struct connection {
  int fd;
  enum transport transport;
  bool secure; // TLS below its transport
  struct tls *tls;
  struct connection *partner;
  bool sends, receives, finished;
  uint32_t interest;
  uint64_t wire_bytes;     // sent, with the framing of WebSocket and without that of TLS
  uint64_t received;       // payload
  struct frames frames;
};

// main.c
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
double now(void);
double cpu_seconds(int pid);
struct cpu cpu_of_peers(const struct options *options);
void print_cpu(const struct options *options, const struct cpu *before, const struct cpu *after);
void print(const char *line);
void wait_for_input(void);

// connect.c
void connect_to(const char *address); // instead of loopback
void use_buffers(int bytes);          // of each connection, instead of those that the kernel chooses
int new_socket(bool blocking);
int start_connecting(int fd, int port);
int listen_on(int port);
void write_handshake(char *line, unsigned token, int side);
unsigned new_token(void);
void dial(struct connection *connection, int port);
void send_line(const struct connection *connection, unsigned token, int side);
void send_all(const struct connection *connection, const void *bytes, size_t length);
void receive_all(const struct connection *connection, void *to, size_t length);
void expect_ok(const struct connection *connection);
void open_pair(const struct options *options, int listener, struct connection *first, struct connection *second);
void open_waiting(const struct options *options, struct connection *connection);

// websocket.c
void websocket_upgrade(const struct connection *connection);
size_t websocket_frame(uint8_t *to, const void *payload, size_t length);
// Counts their payload bytes; exits on an invalid frame.
uint64_t websocket_payload(struct frames *frames, const uint8_t *bytes, size_t count);

// tls.c
void tls_use_suite(const char *suite);
void tls_connect(struct connection *connection);
// Encrypts all bytes. Must not be called while `tls_unsent`. Ciphertext that the kernel does not accept stays unsent.
void tls_send(const struct connection *connection, const void *bytes, size_t length);
bool tls_unsent(const struct connection *connection);
void tls_flush(const struct connection *connection);
// Sends close_notify.
void tls_end(const struct connection *connection);
// Returns what recv would: 0 at the end, -1 with EAGAIN if there are no bytes.
ssize_t tls_receive(const struct connection *connection, void *to, size_t length);
// The same, but counts payload without decrypting it. The connection can no longer be decrypted after the first call.
ssize_t tls_skip(struct connection *connection);

// stream.c
void prepare_streams(void);
uint64_t sent_payload(const struct connection *connection);
// A frame or a TLS record is sent in part.
bool has_unsent(const struct connection *connection);
void send_some(struct connection *connection);
void receive_some(struct connection *connection);

// ping-pong.c
struct ping_pong;
struct ping_pong *start_ping_pong(const struct options *options, int listener);
void measure_ping_pong(struct ping_pong *ping_pong, bool on);
void finish_ping_pong(struct ping_pong *ping_pong);
// Sorts them.
void print_times(float *seconds, size_t count);

// The modes.
void run_bulk(const struct options *options);
void run_stall(const struct options *options);
void run_wait(const struct options *options);
void run_cycles(const struct options *options);
void run_burst(const struct options *options);
void run_latency(const struct options *options);

#endif
