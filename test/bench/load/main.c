// The load generator: load MODE KEY=VALUE...
//
//   bulk    pairs at full speed; throughput, and CPU time of the process `pid`
//   stall   pairs at full speed for `warm_up`, then without reads; stays until its input ends
//   wait    clients wait for partners that never come; stays until its input ends
//   cycles  connect, handshake, match, close, repeatedly, `pairs` at once
//   burst   `pairs` clients connect in the same moment, and are paired
//   latency clients connect one by one to waiting partners; time until `ok`
//
// Prints its measurements as one line of JSON. An error of the peer ends it with exit code 1 and a message.

#include "load.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  exit(1);
}

double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

// CPU time of all threads of the process, including kernel time.
double cpu_seconds(int pid) {
  if (pid == 0) return 0;
  char path[64], stat[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) die("process %d is gone", pid);
  size_t length = fread(stat, 1, sizeof stat - 1, file);
  fclose(file);
  stat[length] = '\0';
  // The name of the program is in parentheses and may contain any characters.
  const char *after_name = strrchr(stat, ')');
  unsigned long user, kernel;
  const char *format = ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu";
  if (after_name == NULL || sscanf(after_name, format, &user, &kernel) != 2)
    die("can't read %s", path);
  return (double)(user + kernel) / sysconf(_SC_CLK_TCK);
}

struct cpu cpu_of_peers(const struct options *options) {
  struct cpu cpu = {0};
  for (int i = 0; i < options->pids.count; i++) {
    cpu.each[i] = cpu_seconds(options->pids.items[i]);
    cpu.all += cpu.each[i];
  }
  return cpu;
}

void print_cpu(const struct options *options, const struct cpu *before, const struct cpu *after) {
  printf(",\"cpuSeconds\":%.2f", after->all - before->all);
  for (int i = 0; i < options->pids.count; i++)
    printf(",\"cpuSeconds%d\":%.2f", i, after->each[i] - before->each[i]);
}

void print(const char *line) {
  puts(line);
  fflush(stdout);
}

void wait_for_input(void) {
  if (getchar() == EOF) exit(0);
}

static void set_transport(const char *name, enum transport *transport, bool *tls) {
  *tls = strcmp(name, "tls") == 0 || strcmp(name, "wss") == 0;
  if (strcmp(name, "tcp") == 0 || strcmp(name, "tls") == 0) *transport = TCP;
  else if (strcmp(name, "websocket") == 0 || strcmp(name, "wss") == 0) *transport = WEBSOCKET;
  else die("%s is no transport", name);
}

// Comma-separated numbers.
static struct list to_list(const char *text) {
  struct list list = {0};
  for (const char *at = text; at != NULL; at = strchr(at, ',')) {
    if (*at == ',') at++;
    if (list.count == MOST_PROCESSES) die("more than %d: %s", MOST_PROCESSES, text);
    list.items[list.count++] = atoi(at);
  }
  return list;
}

static void set(struct options *options, const char *key, const char *value) {
  if (strcmp(key, "port") == 0) options->port = atoi(value);
  else if (strcmp(key, "otherPort") == 0) options->other_port = atoi(value);
  else if (strcmp(key, "host") == 0) connect_to(value);
  else if (strcmp(key, "buffers") == 0) use_buffers(atoi(value));
  else if (strcmp(key, "ports") == 0) options->ports = to_list(value);
  else if (strcmp(key, "sink") == 0) options->sink = atoi(value);
  else if (strcmp(key, "from") == 0) set_transport(value, &options->from, &options->from_tls);
  else if (strcmp(key, "to") == 0) set_transport(value, &options->to, &options->to_tls);
  else if (strcmp(key, "suite") == 0) tls_use_suite(value);
  else if (strcmp(key, "pairs") == 0) options->pairs = atoi(value);
  else if (strcmp(key, "both") == 0) options->both = atoi(value);
  else if (strcmp(key, "pingPong") == 0) options->ping_pong = atoi(value);
  else if (strcmp(key, "pids") == 0) options->pids = to_list(value);
  else if (strcmp(key, "warmUp") == 0) options->warm_up = atof(value);
  else if (strcmp(key, "seconds") == 0) options->seconds = atof(value);
  else die("%s is no option", key);
}

int main(int argc, char **argv) {
  struct options options = {.pairs = 1, .seconds = 1};
  for (int i = 2; i < argc; i++) {
    char *equals = strchr(argv[i], '=');
    if (equals == NULL) die("not KEY=VALUE: %s", argv[i]);
    *equals = '\0';
    set(&options, argv[i], equals + 1);
  }
  const char *mode = argc > 1 ? argv[1] : "none";
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (strcmp(mode, "bulk") == 0) run_bulk(&options);
  else if (strcmp(mode, "stall") == 0) run_stall(&options);
  else if (strcmp(mode, "wait") == 0) run_wait(&options);
  else if (strcmp(mode, "cycles") == 0) run_cycles(&options);
  else if (strcmp(mode, "burst") == 0) run_burst(&options);
  else if (strcmp(mode, "latency") == 0) run_latency(&options);
  else die("%s is no mode", mode);
}
