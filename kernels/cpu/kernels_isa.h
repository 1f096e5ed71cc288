// The tables that kernels_isa.cc defines, one for each instruction set that it is compiled for.
#pragma once

#include "kernels/cpu/kernels.h"

namespace sirocco::cpu {

namespace portable {
extern const Kernels kTable;
}
namespace avx2 {
extern const Kernels kTable;
}
namespace avx_vnni {
extern const Kernels kTable;
}
namespace avx512_vnni {
extern const Kernels kTable;
}
namespace neon_dotprod {
extern const Kernels kTable;
}

}  // namespace sirocco::cpu
