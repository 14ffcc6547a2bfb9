// The part of WebSocket that the generator needs.

#include "load.h"
#include <string.h>

static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

void websocket_upgrade(const struct connection *connection) {
  const char *request = "GET /v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
  send_all(connection, request, strlen(request));
  char head[1024] = "";
  for (size_t length = 0; strstr(head, "\r\n\r\n") == NULL; length++) {
    if (length == sizeof head - 1) die("the answer to the upgrade is too long");
    receive_all(connection, head + length, 1);
    head[length + 1] = '\0';
  }
  if (strncmp(head, "HTTP/1.1 101 ", 13) != 0) die("no upgrade: %s", head);
}

size_t websocket_frame(uint8_t *to, const void *payload, size_t length) {
  const uint8_t *from = payload;
  size_t at = 0;
  to[at++] = 0x82;
  if (length < 126) {
    to[at++] = 0x80 | length;
  } else {
    to[at++] = 0x80 | 126;
    to[at++] = length >> 8;
    to[at++] = length & 0xff;
  }
  memcpy(to + at, MASK, sizeof MASK);
  at += sizeof MASK;
  for (size_t i = 0; i < length; i++) to[at + i] = from[i] ^ MASK[i % 4];
  return at + length;
}

static size_t whole_header(const struct frames *frames) {
  if (frames->header_bytes < 2) return 2;
  size_t mask = frames->header[1] & 0x80 ? sizeof MASK : 0;
  unsigned length = frames->header[1] & 0x7f;
  return mask + (length < 126 ? 2 : length == 126 ? 4 : 10);
}

static void begin_payload(struct frames *frames) {
  const uint8_t *header = frames->header;
  unsigned opcode = header[0] & 0x0f;
  bool masked = header[1] & 0x80;
  if (header[0] & 0x70) die("reserved bits in a frame: %02x", header[0]);
  if (masked != frames->from_client) die("a frame that is %smasked", masked ? "" : "not ");
  if (opcode == 8) frames->closed = true;
  else if (opcode != 0 && opcode != 2 && opcode != 9 && opcode != 10) die("opcode %u", opcode);
  frames->control = opcode >= 8;
  uint64_t length = header[1] & 0x7f;
  if (length == 126) {
    length = header[2] << 8 | header[3];
  } else if (length == 127) {
    length = 0;
    for (int i = 2; i < 10; i++) length = length << 8 | header[i];
  }
  frames->header_bytes = 0;
  frames->payload_left = length;
  if (frames->control) return;
  if (opcode != 0) frames->message_bytes = 0;
  frames->message_bytes += length;
  if (frames->message_bytes > LONGEST_MESSAGE) die("a message of %lu bytes", (unsigned long)frames->message_bytes);
}

uint64_t websocket_payload(struct frames *frames, const uint8_t *bytes, size_t count) {
  uint64_t payload = 0;
  while (count > 0) {
    if (frames->payload_left > 0) {
      size_t part = count < frames->payload_left ? count : frames->payload_left;
      if (!frames->control) payload += part;
      frames->payload_left -= part;
      bytes += part;
      count -= part;
      continue;
    }
    frames->header[frames->header_bytes++] = *bytes++;
    count--;
    if (frames->header_bytes == whole_header(frames)) begin_payload(frames);
  }
  return payload;
}
