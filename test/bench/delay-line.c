// A path with a delay, for kernels without netem: holds every packet of a tun device for some time.
//
//   delay-line DEVICE DELAY_MS
//
// Both ends of the path are this machine: source and destination of a packet are exchanged, which leaves its checksums
// valid. A program that listens on the device's address can be reached at its peer address, and there all its packets
// have the delay, in each direction. The kernel passes segments of up to 64 KiB, as on loopback.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

// The kernel's header, which describes what is left to do (struct virtio_net_hdr), and the largest packet.
enum { HEADER_BYTES = 10, MOST_BYTES = HEADER_BYTES + 65536 };

struct packet {
  struct packet *next;
  double due;
  size_t length;
  uint8_t bytes[];
};

static struct packet *first, **end = &first; // by time

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static int open_device(const char *name) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (fd < 0) die("/dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(fd, TUNSETIFF, &request) < 0) die("TUNSETIFF");
  if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0) die("TUNSETOFFLOAD");
  return fd;
}

static void take_packets(int device, double delay) {
  static uint8_t bytes[MOST_BYTES];
  ssize_t length;
  while ((length = read(device, bytes, sizeof bytes)) > 0) {
    struct iphdr *header = (struct iphdr *)(bytes + HEADER_BYTES);
    if (header->version != 4) continue;
    uint32_t source = header->saddr;
    header->saddr = header->daddr;
    header->daddr = source;
    struct packet *packet = malloc(sizeof *packet + length);
    if (packet == NULL) die("malloc");
    packet->next = NULL;
    packet->due = now() + delay;
    packet->length = length;
    memcpy(packet->bytes, bytes, length);
    *end = packet;
    end = &packet->next;
  }
  if (length < 0 && errno != EAGAIN) die("read");
}

static void return_packets(int device) {
  while (first != NULL && first->due <= now()) {
    struct packet *packet = first;
    if (write(device, packet->bytes, packet->length) < 0) die("write");
    first = packet->next;
    if (first == NULL) end = &first;
    free(packet);
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: delay-line DEVICE DELAY_MS\n"), 2;
  int device = open_device(argv[1]);
  double delay = atof(argv[2]) / 1e3;
  puts("ready");
  fflush(stdout);
  for (;;) {
    double wait = first == NULL ? 1 : first->due - now();
    if (wait < 0) wait = 0;
    struct timespec timeout = {.tv_sec = (time_t)wait, .tv_nsec = (wait - (time_t)wait) * 1e9};
    struct pollfd poll_for = {.fd = device, .events = POLLIN};
    ppoll(&poll_for, 1, &timeout, NULL);
    take_packets(device, delay);
    return_packets(device);
  }
}
