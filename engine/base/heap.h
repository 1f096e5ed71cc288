// The memory behind malloc(), in a process that lives for months: glibc gives each thread an arena of its own and keeps
// in it what was freed. A model that is loaded on a thread of its own would leave some 12 MiB with each.
#pragma once

namespace sirocco {

// One arena for all threads: a step allocates nothing, so that nobody waits for its lock. What is large comes from the
// kernel and goes back to it at once. Before the first thread.
void share_heap();

// What is free goes back to the kernel. Takes some milliseconds.
void return_free_heap();

}  // namespace sirocco
