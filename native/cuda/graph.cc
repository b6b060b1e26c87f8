// Stream capture.
#include "graph.h"

#include <vector>

#include "failure.h"

namespace ladder::cuda {

Graph::Graph(const Stream& stream, const std::function<void()>& enqueue) {
  const Driver& cu = driver();
  check(cu.streamBeginCapture(stream.get(), kCaptureModeThreadLocal), "beginning the capture of a CUDA graph");
  try {
    enqueue();
  } catch (...) {
    // The capture must be ended, whatever state it is in, or the stream stays unusable.
    GraphHandle partial = nullptr;
    cu.streamEndCapture(stream.get(), &partial);
    if (partial) cu.graphDestroy(partial);
    throw;
  }
  check(cu.streamEndCapture(stream.get(), &graph_), "ending the capture of a CUDA graph");
  try {
    inspect();
    check(cu.graphInstantiate(&executable_, graph_, 0), "instantiating the CUDA graph");
  } catch (...) {
    cu.graphDestroy(graph_);
    throw;
  }
}

Graph::~Graph() {
  driver().graphExecDestroy(executable_);
  driver().graphDestroy(graph_);
}

void Graph::launch(const Stream& stream) const { check(driver().graphLaunch(executable_, stream.get()), "launching the CUDA graph"); }

void Graph::inspect() {
  const Driver& cu = driver();
  size_t count = 0;
  check(cu.graphGetNodes(graph_, nullptr, &count), "counting the graph's nodes");
  std::vector<GraphNodeHandle> nodes(count);
  if (count) check(cu.graphGetNodes(graph_, nodes.data(), &count), "listing the graph's nodes");
  for (GraphNodeHandle node : nodes) {
    int type = -1;
    check(cu.graphNodeGetType(node, &type), "reading a graph node's type");
    if (type == kGraphNodeTypeKernel) ++kernelNodes_;
  }
  if (!cu.graphGetEdges) return;
  check(cu.graphGetEdges(graph_, nullptr, nullptr, nullptr, &count), "counting the graph's edges");
  std::vector<GraphNodeHandle> from(count);
  std::vector<GraphNodeHandle> to(count);
  std::vector<GraphEdgeData> edges(count);
  if (count) check(cu.graphGetEdges(graph_, from.data(), to.data(), edges.data(), &count), "listing the graph's edges");
  for (const GraphEdgeData& edge : edges) {
    if (edge.type == kGraphDependencyProgrammatic) ++programmaticEdges_;
  }
}

}  // namespace ladder::cuda
