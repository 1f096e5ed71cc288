// Standard input, output and error, whatever the program was started with.
#pragma once

namespace sirocco {

// Fills those that are closed, so that no socket or file gets their number and with it what is printed. Reading from
// such a one gives its end, writing to it fails. The first thing a program does.
void open_standard_files();

}  // namespace sirocco
