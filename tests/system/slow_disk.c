// For LD_PRELOAD: a disk that takes $SLOW_DISK_MS for whatever is to reach it.
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for_it(void) {
  const char* ms = getenv("SLOW_DISK_MS");
  if (ms != NULL) usleep((useconds_t)atoi(ms) * 1000);
}

int fsync(int descriptor) {
  wait_for_it();
  return (int)syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor) {
  wait_for_it();
  return (int)syscall(SYS_fdatasync, descriptor);
}
