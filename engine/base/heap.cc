#include "engine/base/heap.h"

#include <cstdlib>  // defines __GLIBC__

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace sirocco {

void share_heap() {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 256 * 1024);
#endif
}

void return_free_heap() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace sirocco
