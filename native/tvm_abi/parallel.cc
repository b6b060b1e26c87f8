// The thread pool behind TVM's parallel regions. All tasks of a region run at once, since they may wait for each other.
#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "packed_function.h"

namespace ladder::tvm_abi {
namespace {

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int generation = generation_;
    if (++arrived_ == count_) {
      arrived_ = 0;
      ++generation_;
      lock.unlock();
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return generation_ != generation; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  const int count_;
  int arrived_ = 0;
  int generation_ = 0;
};

struct Region {
  ParallelTask task;
  void* data;
  ParallelGroup group;
  int nextTask = 1;  // under the pool's mutex
  int running = 0;
  int status = 0;
  std::string errorText;
};

thread_local bool insideRegion = false;

class Pool {
 public:
  int run(ParallelTask task, void* data, int taskCount) {
    const std::lock_guard<std::mutex> oneRegion(regionMutex_);
    Barrier barrier(taskCount);
    Region region{task, data, {&barrier, taskCount}, 1, taskCount - 1, 0, {}};
    {
      std::unique_lock<std::mutex> lock(mutex_);
      for (; threads_ < taskCount - 1; ++threads_) std::thread([this] { work(); }).detach();
      region_ = &region;
    }
    started_.notify_all();
    const int own = runTask(region, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [&] { return region.running == 0; });
    region_ = nullptr;
    if (own != 0) return own;
    if (region.status != 0) lastErrorText() = region.errorText;
    return region.status;
  }

 private:
  static int runTask(Region& region, int index) {
    insideRegion = true;
    const int status = region.task(index, &region.group, region.data);
    insideRegion = false;
    return status;
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      started_.wait(lock, [&] { return region_ && region_->nextTask < region_->group.taskCount; });
      Region& region = *region_;
      const int index = region.nextTask++;
      lock.unlock();
      const int status = runTask(region, index);
      lock.lock();
      if (status != 0 && region.status == 0) {
        region.status = status;
        region.errorText = lastErrorText();
      }
      if (--region.running == 0) finished_.notify_all();
    }
  }

  std::mutex regionMutex_;
  std::mutex mutex_;
  std::condition_variable started_;
  std::condition_variable finished_;
  Region* region_ = nullptr;
  int threads_ = 0;
};

}  // namespace

int parallelLaunch(ParallelTask task, void* data, int taskCount) {
  if (taskCount <= 0) taskCount = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (taskCount == 1 || insideRegion) {
    Barrier barrier(1);
    ParallelGroup group{&barrier, 1};
    return task(0, &group, data);
  }
  static Pool* const pool = new Pool();  // its threads live until the process ends
  return pool->run(task, data, taskCount);
}

void parallelBarrier(ParallelGroup* group) { static_cast<Barrier*>(group->barrier)->wait(); }

}  // namespace ladder::tvm_abi
