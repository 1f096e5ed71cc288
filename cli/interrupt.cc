#include "cli/interrupt.h"

#include <atomic>

namespace sirocco {
namespace {

std::atomic<Client*> answering = nullptr;
static_assert(std::atomic<Client*>::is_always_lock_free);  // the signal handler reads it

void on_interrupt(int) {
  if (Client* const client = answering.load(); client != nullptr) client->cancel();
}

}  // namespace

Interrupt::Interrupt(Again again) {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags =
      again == Again::ends ? static_cast<int>(SA_RESETHAND) : 0;  // no SA_RESTART: a terminal's read returns
  sigaction(SIGINT, &action, &before_);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &before_, nullptr);
}

Interrupt::Cancels::Cancels(Client& client) {
  answering = &client;
}

Interrupt::Cancels::~Cancels() {
  answering = nullptr;
}

}  // namespace sirocco
