/* Preloaded, gives a process another wall clock: the real one and the seconds in the file $SET_CLOCK, a double. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile double *offset;

__attribute__((constructor)) static void map(void) {
  const char *path = getenv("SET_CLOCK");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) abort();
  offset = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
  if (offset == MAP_FAILED) abort();
  close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(clock, now);
  if (!status && clock == CLOCK_REALTIME && offset) now->tv_sec += (time_t)*offset;
  return status;
}
