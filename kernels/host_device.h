// For functions that the host calls as well as kernels.
#pragma once

#ifdef __CUDACC__
#define SIROCCO_HOST_DEVICE __host__ __device__
#else
#define SIROCCO_HOST_DEVICE
#endif
