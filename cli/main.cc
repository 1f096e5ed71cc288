#include "cli/app.h"

int main(int argc, char** argv) {
  return sirocco::run_app(argc, argv);
}
