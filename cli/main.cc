#include "cli/app.h"
#include "engine/base/standard_files.h"

int main(int argc, char** argv) {
  sirocco::open_standard_files();
  return sirocco::run_app(argc, argv);
}
