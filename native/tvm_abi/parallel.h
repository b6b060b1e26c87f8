// Parallel regions of CPU operators (TVMBackendParallelLaunch and its barrier): one pool of threads per process.
#pragma once

#include "abi.h"

namespace ladder::tvm_abi {

/// Runs task 0…taskCount−1 at the same time, task 0 on the calling thread; 0 means one task per host core. Regions of several
/// threads run one after the other; a region inside a region runs with one task.
/// @returns the first non-zero status of a task, whose error text becomes the caller's
int parallelLaunch(ParallelTask task, void* data, int taskCount);

/// Waits for the other tasks of the region.
void parallelBarrier(ParallelGroup* group);

}  // namespace ladder::tvm_abi
