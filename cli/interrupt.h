// Ctrl-C as an event of the program instead of its end: what waits for input returns, what waits for an answer cancels
// it. One at a time, made and destroyed by the main thread.
#pragma once

#include <csignal>

#include "ipc/client/client.h"

namespace sirocco {

class Interrupt {
 public:
  enum class Again { handled, ends };  // a second Ctrl-C: like the first, or the end of the program
  explicit Interrupt(Again again);
  ~Interrupt();  // Ctrl-C ends the program again
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // While one lives, Ctrl-C cancels the client's request.
  class Cancels {
   public:
    explicit Cancels(Client& client);
    ~Cancels();
    Cancels(const Cancels&) = delete;
    Cancels& operator=(const Cancels&) = delete;
  };

 private:
  struct sigaction before_ = {};
};

}  // namespace sirocco
