// CUDA graphs: capture of a stream's work, its instantiation and replay, and what the graph consists of.
#pragma once

#include <cstddef>
#include <functional>

#include "handles.h"

namespace ladder::cuda {

/// Owns an instantiated graph.
class Graph {
 public:
  /// Captures what `enqueue` puts on `stream` (never the legacy stream, which cannot be captured). Capture is
  /// thread-local: other threads' work is not disturbed. The stream is usable again when this returns or throws.
  /// @throws Error what `enqueue` threw, or CUDA
  Graph(const Stream& stream, const std::function<void()>& enqueue);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(const Stream& stream) const;
  size_t kernelNodes() const noexcept { return kernelNodes_; }
  /// Edges of programmatic dependent launch; 0 where the driver cannot tell (before CUDA 12.3).
  size_t programmaticEdges() const noexcept { return programmaticEdges_; }

 private:
  void inspect();
  GraphHandle graph_ = nullptr;
  GraphExecHandle executable_ = nullptr;
  size_t kernelNodes_ = 0;
  size_t programmaticEdges_ = 0;
};

}  // namespace ladder::cuda
