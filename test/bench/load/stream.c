// Sends prepared bytes without end, and counts received bytes without inspecting them.

#include "load.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// Larger writes were measured to be slower: they leave the cache before the peer reads them.
enum { STREAM_MESSAGES = 16 };

// The header of a frame that is not empty and comes with a mask is longer; the parser takes any split.
enum { SHORTEST_HEADER = 4, FRAMES_A_TURN = 32, MOST_BYTES_A_TURN = 1 << 30 };

// Plaintext of one TLS record (RFC 8446, 5.1). A smaller buffer would leave bytes that epoll does not see.
enum { LONGEST_RECORD = 16384 };

static struct {
  uint8_t *bytes;
  size_t length;
} streams[2];

void prepare_streams(void) {
  uint8_t *noise = malloc(STREAM_MESSAGES * MESSAGE_BYTES);
  for (int i = 0; i < STREAM_MESSAGES * MESSAGE_BYTES; i++) noise[i] = rand() >> 8;
  streams[TCP].bytes = noise;
  streams[TCP].length = STREAM_MESSAGES * MESSAGE_BYTES;
  uint8_t *frames = malloc(STREAM_MESSAGES * FRAME_BYTES);
  for (int i = 0; i < STREAM_MESSAGES; i++)
    websocket_frame(frames + i * FRAME_BYTES, noise + i * MESSAGE_BYTES, MESSAGE_BYTES);
  streams[WEBSOCKET].bytes = frames;
  streams[WEBSOCKET].length = STREAM_MESSAGES * FRAME_BYTES;
}

uint64_t sent_payload(const struct connection *connection) {
  if (connection->transport == TCP) return connection->wire_bytes;
  return connection->wire_bytes / FRAME_BYTES * MESSAGE_BYTES;
}

bool has_unsent(const struct connection *connection) {
  if (connection->secure) return tls_unsent(connection);
  return connection->transport == WEBSOCKET && connection->wire_bytes % FRAME_BYTES != 0;
}

// TLS accepts the whole stream at once, so that frames are always complete.
static void send_securely(struct connection *connection) {
  if (tls_unsent(connection)) return tls_flush(connection);
  if (!connection->sends) return;
  tls_send(connection, streams[connection->transport].bytes, streams[connection->transport].length);
  connection->wire_bytes += streams[connection->transport].length;
}

void send_some(struct connection *connection) {
  if (connection->secure) return send_securely(connection);
  size_t length = streams[connection->transport].length, at = connection->wire_bytes % length;
  size_t count = length - at;
  // No longer sending, except for the rest of the current frame.
  if (!connection->sends) count = FRAME_BYTES - at % FRAME_BYTES;
  ssize_t sent = send(connection->fd, streams[connection->transport].bytes + at, count, MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN) die("send: %s", strerror(errno));
  if (sent > 0) connection->wire_bytes += sent;
}

// The kernel discards the bytes, so that only the peer is measured and not an unused copy.
static ssize_t discard(int fd, size_t count) {
  return recv(fd, NULL, count, MSG_DONTWAIT | MSG_TRUNC);
}

// Headers are read and parsed, payload is not.
static ssize_t receive_frames(struct connection *connection) {
  struct frames *frames = &connection->frames;
  ssize_t got = 0;
  for (int i = 0; i < FRAMES_A_TURN; i++) {
    uint8_t header[SHORTEST_HEADER];
    got = recv(connection->fd, header, sizeof header, MSG_DONTWAIT);
    if (got <= 0) break;
    connection->received += websocket_payload(frames, header, got);
    if (frames->payload_left == 0) continue;
    got = discard(connection->fd, frames->payload_left);
    if (got <= 0) break;
    if (!frames->control) connection->received += got;
    frames->payload_left -= got;
  }
  if (frames->closed) connection->finished = true;
  return got;
}

// Frame headers are encrypted too, so the generator decrypts everything.
static ssize_t receive_secure_frames(struct connection *connection) {
  static uint8_t plaintext[LONGEST_RECORD];
  ssize_t got = 0;
  for (int i = 0; i < FRAMES_A_TURN && !connection->frames.closed; i++) {
    got = tls_receive(connection, plaintext, sizeof plaintext);
    if (got <= 0) break;
    connection->received += websocket_payload(&connection->frames, plaintext, got);
  }
  if (connection->frames.closed) connection->finished = true;
  return got;
}

static ssize_t receive_plain(struct connection *connection) {
  ssize_t got = discard(connection->fd, MOST_BYTES_A_TURN);
  if (got > 0) connection->received += got;
  return got;
}

void receive_some(struct connection *connection) {
  ssize_t got;
  if (connection->transport == TCP) got = connection->secure ? tls_skip(connection) : receive_plain(connection);
  else got = connection->secure ? receive_secure_frames(connection) : receive_frames(connection);
  if (got == 0) connection->finished = true;
  else if (got < 0 && errno != EAGAIN) die("receive: %s", strerror(errno));
}
