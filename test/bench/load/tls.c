// TLS for the generator. It encrypts the bytes it sends. It counts received bytes by the headers of the records, without
// decrypting them: that costs much less than the peer's own work, so that the peer is the bottleneck.

#include "load.h"

#ifdef WITH_TLS

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// RFC 8446, 5.2: a record of TLS 1.3 has a header, then the content, its type and an authentication tag of 16 bytes.
enum { HEADER_BYTES = 5, TYPE_AND_TAG_BYTES = 17, APPLICATION_DATA = 23, ALERT_BYTES = 2 };

// Holds the longest write, a whole stream, as records.
enum { UNSENT_BYTES = 320 * 1024 };

enum { RECORDS_A_TURN = 32 };

struct tls {
  SSL *ssl;
  BIO *unsent; // ciphertext
  uint8_t header[HEADER_BYTES];
  unsigned header_bytes;
  size_t record_bytes, record_left;
};

static const char *suite = "TLS_AES_256_GCM_SHA384";

static void __attribute__((noreturn)) die_of_tls(const char *what) {
  die("%s: %s", what, ERR_error_string(ERR_get_error(), NULL));
}

void tls_use_suite(const char *name) {
  suite = name;
}

// TLS 1.3 with one suite. The certificate is not verified.
static SSL_CTX *client_context(void) {
  static SSL_CTX *context;
  if (context != NULL) return context;
  context = SSL_CTX_new(TLS_client_method());
  if (context == NULL) die_of_tls("SSL_CTX_new");
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  if (SSL_CTX_set_ciphersuites(context, suite) != 1) die_of_tls(suite);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  return context;
}

void tls_connect(struct connection *connection) {
  struct tls *tls = connection->tls = calloc(1, sizeof *tls);
  if (tls == NULL) die("calloc: %s", strerror(errno));
  tls->ssl = SSL_new(client_context());
  if (tls->ssl == NULL || SSL_set_fd(tls->ssl, connection->fd) != 1) die_of_tls("SSL_new");
  if (SSL_connect(tls->ssl) != 1) die_of_tls("no TLS");
  BIO *encrypted;
  if (BIO_new_bio_pair(&encrypted, UNSENT_BYTES, &tls->unsent, 0) != 1) die_of_tls("BIO_new_bio_pair");
  SSL_set0_wbio(tls->ssl, encrypted);
  fcntl(connection->fd, F_SETFL, fcntl(connection->fd, F_GETFL) | O_NONBLOCK);
}

bool tls_unsent(const struct connection *connection) {
  return BIO_pending(connection->tls->unsent) > 0;
}

void tls_flush(const struct connection *connection) {
  BIO *unsent = connection->tls->unsent;
  while (tls_unsent(connection)) {
    char *bytes;
    int length = BIO_nread0(unsent, &bytes);
    ssize_t sent = send(connection->fd, bytes, length, MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) die("send: %s", strerror(errno));
    BIO_nread(unsent, &bytes, sent);
    if (sent < length) return;
  }
}

void tls_send(const struct connection *connection, const void *bytes, size_t length) {
  if (SSL_write(connection->tls->ssl, bytes, length) != (int)length) die_of_tls("SSL_write");
  tls_flush(connection);
}

void tls_end(const struct connection *connection) {
  SSL_shutdown(connection->tls->ssl);
  tls_flush(connection);
}

ssize_t tls_receive(const struct connection *connection, void *to, size_t length) {
  int got = SSL_read(connection->tls->ssl, to, length);
  if (got > 0) return got;
  switch (SSL_get_error(connection->tls->ssl, got)) {
  case SSL_ERROR_WANT_READ: errno = EAGAIN; return -1;
  case SSL_ERROR_ZERO_RETURN: return 0;
  case SSL_ERROR_SYSCALL: return -1;
  default: die_of_tls("SSL_read");
  }
}

// Without decryption an alert looks like two bytes of data. The last record of a stream is the alert close_notify.
static ssize_t end_of_records(struct connection *connection) {
  if (connection->tls->record_bytes != ALERT_BYTES) die("a TLS stream without close_notify");
  connection->received -= ALERT_BYTES;
  return 0;
}

static void begin_record(struct tls *tls) {
  const uint8_t *header = tls->header;
  size_t length = header[3] << 8 | header[4];
  if (header[0] != APPLICATION_DATA || length < TYPE_AND_TAG_BYTES)
    die("a TLS record of type %u with %zu bytes", header[0], length);
  tls->header_bytes = 0;
  tls->record_left = length;
  tls->record_bytes = length - TYPE_AND_TAG_BYTES;
}

ssize_t tls_skip(struct connection *connection) {
  struct tls *tls = connection->tls;
  ssize_t got = 0;
  for (int i = 0; i < RECORDS_A_TURN; i++) {
    if (tls->record_left == 0) {
      got = recv(connection->fd, tls->header + tls->header_bytes, HEADER_BYTES - tls->header_bytes, MSG_DONTWAIT);
      if (got == 0) return end_of_records(connection);
      if (got < 0) return got;
      tls->header_bytes += got;
      if (tls->header_bytes < HEADER_BYTES) continue;
      begin_record(tls);
    }
    got = recv(connection->fd, NULL, tls->record_left, MSG_DONTWAIT | MSG_TRUNC);
    if (got == 0) die("a TLS stream that ends in a record");
    if (got < 0) return got;
    tls->record_left -= got;
    if (tls->record_left == 0) connection->received += tls->record_bytes;
  }
  return got;
}

#else

// Compiled without OpenSSL: tls_connect ends the run, and the others are never called.

void tls_use_suite(const char *suite) {
  (void)suite;
}

void tls_connect(struct connection *connection) {
  (void)connection;
  die("compiled without OpenSSL");
}

void tls_send(const struct connection *connection, const void *bytes, size_t length) {
  (void)connection, (void)bytes, (void)length;
}

bool tls_unsent(const struct connection *connection) {
  (void)connection;
  return false;
}

void tls_flush(const struct connection *connection) {
  (void)connection;
}

void tls_end(const struct connection *connection) {
  (void)connection;
}

ssize_t tls_receive(const struct connection *connection, void *to, size_t length) {
  (void)connection, (void)to, (void)length;
  return 0;
}

ssize_t tls_skip(struct connection *connection) {
  (void)connection;
  return 0;
}

#endif
