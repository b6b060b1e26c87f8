// Hand-written PTX. All loops are grid-stride, so any grid gives the same.
#include "contrib_ptx.h"

#include <cstddef>

#include "contrib_kernels.h"
#include "ptx_text.h"

namespace ladder::cuda {
namespace {

/// How elements of a type are read into a float, and written from one.
struct Element {
  const char* name;
  int bytesLog2;
  std::string load(const std::string& target, const std::string& address) const {
    return bytesLog2 == 1 ? "  ld.global.b16 %h0, [" + address + "];\n  cvt.f32.f16 " + target + ", %h0;\n"
                          : "  ld.global.f32 " + target + ", [" + address + "];\n";
  }
  std::string store(const std::string& source, const std::string& address) const {
    return bytesLog2 == 1 ? "  cvt.rn.f16.f32 %h0, " + source + ";\n  st.global.b16 [" + address + "], %h0;\n"
                          : "  st.global.f32 [" + address + "], " + source + ";\n";
  }
  /// `target` = `elements` in bytes.
  std::string scale(const std::string& target, const std::string& elements) const {
    return "  shl.b64 " + target + ", " + elements + ", " + std::to_string(bytesLog2) + ";\n";
  }
};

constexpr Element kElements[] = {{"f16", 1}, {"f32", 2}};

/// Reads a member of the kernel's Convolution.
std::string member(const std::string& target, size_t offset) {
  return "  ld.param.u64 " + target + ", [shape+" + std::to_string(offset) + "];\n";
}
#define MEMBER(target, name) member(target, offsetof(Convolution, name))

/// `target` += `index` times the stride `name`.
#define ADVANCE(target, index, name) (MEMBER("%rd5", name) + "  mad.lo.s64 " target ", " index ", %rd5, " target ";\n")

/// A thread per element of y: %rd0. Elements go by its stored order, whose three inner indices are taken off one by one.
std::string convolution(const Element& element) {
  return std::string("\n.visible .entry ladder_convolution_") + element.name +
         "(\n  .param .u64 x, .param .u64 w, .param .u64 y, .param .align 8 .b8 shape[" + std::to_string(sizeof(Convolution)) + R"(])
{
  .reg .pred %p<2>;
  .reg .b16 %h<1>;
  .reg .b32 %r<3>;
  .reg .b64 %rd<7>;
  .reg .b64 %image, %first, %second, %third, %channel, %top, %left, %row, %column, %i, %j, %c;
  .reg .b64 %x, %w, %xi, %wi;
  .reg .f32 %sum, %a, %b;
  ld.param.u64 %rd2, [x];
  ld.param.u64 %rd3, [w];
  ld.param.u64 %rd4, [y];)" +
         kThreadIndex + "NEXT:\n" + MEMBER("%rd5", outputs) + R"(
  setp.ge.u64 %p0, %rd0, %rd5;
  @%p0 bra DONE;
)" + MEMBER("%rd5", extent[2]) +
         "  rem.u64 %third, %rd0, %rd5;\n  div.u64 %image, %rd0, %rd5;\n" +  //
         MEMBER("%rd5", extent[1]) + "  rem.u64 %second, %image, %rd5;\n  div.u64 %image, %image, %rd5;\n" +  //
         MEMBER("%rd5", extent[0]) + "  rem.u64 %first, %image, %rd5;\n  div.u64 %image, %image, %rd5;\n" +  //
         MEMBER("%rd5", channelsLast) + R"(
  setp.ne.u64 %p0, %rd5, 0;
  selp.b64 %channel, %third, %first, %p0;
  selp.b64 %top, %first, %second, %p0;
  selp.b64 %left, %second, %third, %p0;
)" +  // where the kernel's first element lies in x
         MEMBER("%rd5", stride[0]) +
         "  mul.lo.s64 %top, %top, %rd5;\n" + MEMBER("%rd5", padding[0]) + "  sub.s64 %top, %top, %rd5;\n" +  //
         MEMBER("%rd5", stride[1]) + "  mul.lo.s64 %left, %left, %rd5;\n" + MEMBER("%rd5", padding[1]) +
         "  sub.s64 %left, %left, %rd5;\n" +  // the group's first channel
         MEMBER("%rd5", groupOutputs) + "  div.u64 %c, %channel, %rd5;\n" + MEMBER("%rd5", groupInputs) +
         "  mul.lo.u64 %c, %c, %rd5;\n" +  //
         "  mov.u64 %x, %rd2;\n" + ADVANCE("%x", "%image", x.outer) + ADVANCE("%x", "%c", x.channel) + "  mov.u64 %w, %rd3;\n" +
         ADVANCE("%w", "%channel", w.outer) + R"(
  mov.f32 %sum, 0f00000000;
  mov.u64 %i, 0;
ROW:
)" + MEMBER("%rd5", kernelHeight) +
         "  setp.ge.u64 %p0, %i, %rd5;\n  @%p0 bra STORE;\n  mov.u64 %row, %top;\n" + ADVANCE("%row", "%i", dilation[0]) +
         MEMBER("%rd5", height) + R"(
  setp.ge.u64 %p0, %row, %rd5;
  @%p0 bra NEXTROW;
  mov.u64 %j, 0;
COLUMN:
)" + MEMBER("%rd5", kernelWidth) +
         "  setp.ge.u64 %p0, %j, %rd5;\n  @%p0 bra NEXTROW;\n  mov.u64 %column, %left;\n" + ADVANCE("%column", "%j", dilation[1]) +
         MEMBER("%rd5", width) + R"(
  setp.ge.u64 %p0, %column, %rd5;
  @%p0 bra NEXTCOLUMN;
  mov.u64 %xi, %x;
  mov.u64 %wi, %w;
)" + ADVANCE("%xi", "%row", x.row) +
         ADVANCE("%xi", "%column", x.column) + ADVANCE("%wi", "%i", w.row) + ADVANCE("%wi", "%j", w.column) + MEMBER("%c", groupInputs) +
         MEMBER("%rd5", x.channel) + MEMBER("%rd6", w.channel) + "CHANNEL:\n" + element.load("%a", "%xi") + element.load("%b", "%wi") + R"(
  fma.rn.f32 %sum, %a, %b, %sum;
  add.s64 %xi, %xi, %rd5;
  add.s64 %wi, %wi, %rd6;
  sub.u64 %c, %c, 1;
  setp.ne.u64 %p1, %c, 0;
  @%p1 bra CHANNEL;
NEXTCOLUMN:
  add.u64 %j, %j, 1;
  bra COLUMN;
NEXTROW:
  add.u64 %i, %i, 1;
  bra ROW;
STORE:
)" + element.scale("%rd5", "%rd0") +
         "  add.u64 %rd5, %rd4, %rd5;\n" + element.store("%sum", "%rd5") + R"(
  add.u64 %rd0, %rd0, %rd1;
  bra NEXT;
DONE:
  ret;
}
)";
}

#undef ADVANCE
#undef MEMBER

/// Every lane's `value` becomes that of all 32 lanes, by `operation`.
std::string reduce(const std::string& operation, const std::string& value) {
  std::string text;
  for (const int distance : {16, 8, 4, 2, 1}) {
    text += "  mov.b32 %r2, " + value + ";\n  shfl.sync.bfly.b32 %r2, %r2, " + std::to_string(distance) +
            ", 31, 0xffffffff;\n  mov.b32 %b, %r2;\n  " + operation + " " + value + ", " + value + ", %b;\n";
  }
  return text;
}

/// A loop of the warp's lanes over a row: `step` with an element in %a, and its offset from the row's first in %i.
std::string overRow(const std::string& label, const Element& element, const std::string& step) {
  return "  mov.u64 %k, %lane;\n" + label + ":\n  setp.ge.u64 %p0, %k, %rd5;\n  @%p0 bra END" + label + R"(;
  mad.lo.u64 %i, %k, %rd6, %row;
)" + element.scale("%i", "%i") +
         "  add.u64 %rd8, %rd2, %i;\n" + element.load("%a", "%rd8") + step + "  add.u64 %k, %k, 32;\n  bra " + label + ";\nEND" + label +
         ":\n";
}

/// %a = exp(%a − max)
constexpr const char* kExponential = R"(
  sub.f32 %a, %a, %max;
  mul.f32 %a, %a, 0f3fb8aa3b;
  ex2.approx.f32 %a, %a;
)";

/// A warp per row, %rd7 rows at once: its greatest element, its sum, its results.
std::string softmax(const Element& element) {
  return std::string("\n.visible .entry ladder_softmax_") + element.name +
         R"((.param .u64 x, .param .u64 y, .param .u64 rows, .param .u64 extent, .param .u64 inner)
{
  .reg .pred %p<1>;
  .reg .b16 %h<1>;
  .reg .b32 %r<3>;
  .reg .b64 %rd<9>;
  .reg .b64 %lane, %row, %k, %i;
  .reg .f32 %max, %sum, %a, %b;
  ld.param.u64 %rd2, [x];
  ld.param.u64 %rd3, [y];
  ld.param.u64 %rd4, [rows];
  ld.param.u64 %rd5, [extent];
  ld.param.u64 %rd6, [inner];)" +
         kThreadIndex + R"(
  and.b64 %lane, %rd0, 31;
  shr.u64 %rd0, %rd0, 5;
  shr.u64 %rd7, %rd1, 5;
NEXT:
  setp.ge.u64 %p0, %rd0, %rd4;
  @%p0 bra DONE;
  div.u64 %row, %rd0, %rd6;
  rem.u64 %i, %rd0, %rd6;
  mul.lo.u64 %row, %row, %rd5;
  mad.lo.u64 %row, %row, %rd6, %i;
  mov.f32 %max, 0fff800000;
)" + overRow("GREATEST", element, "  max.f32 %max, %max, %a;\n") +
         reduce("max.f32", "%max") + "  mov.f32 %sum, 0f00000000;\n" +
         overRow("SUM", element, std::string(kExponential) + "  add.f32 %sum, %sum, %a;\n") + reduce("add.f32", "%sum") +
         "  rcp.rn.f32 %sum, %sum;\n" +
         overRow("RESULT", element,
                 std::string(kExponential) + "  mul.f32 %a, %a, %sum;\n  add.u64 %rd8, %rd3, %i;\n" + element.store("%a", "%rd8")) +
         R"(
  add.u64 %rd0, %rd0, %rd7;
  bra NEXT;
DONE:
  ret;
}
)";
}

}  // namespace

std::string contribPtx() {
  std::string text = kPtxHeader;
  for (const Element& element : kElements) text += convolution(element) + softmax(element);
  return text;
}

}  // namespace ladder::cuda
