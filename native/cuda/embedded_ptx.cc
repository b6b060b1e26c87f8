// Hand-written PTX. The fill kernels follow the generator of lib/artifact/manifest.ts (`Fill`) bit for bit; the host's twin
// is native/reference's fill(). All loops are grid-stride, so any grid gives the same bytes.
#include "embedded_ptx.h"

#include "ptx_text.h"

namespace ladder::cuda {
namespace {

// u(i) = high 32 bits of SplitMix64's finaliser over key + (i+1)·0x9E3779B97F4A7C15.
constexpr const char* kWordFunction = R"(
.func (.reg .b32 word) ladder_word(.reg .b64 key, .reg .b64 index)
{
  .reg .b64 z, t;
  add.u64 z, index, 1;
  mul.lo.u64 z, z, 0x9E3779B97F4A7C15;
  add.u64 z, z, key;
  shr.u64 t, z, 30;
  xor.b64 z, z, t;
  mul.lo.u64 z, z, 0xBF58476D1CE4E5B9;
  shr.u64 t, z, 27;
  xor.b64 z, z, t;
  mul.lo.u64 z, z, 0x94D049BB133111EB;
  shr.u64 t, z, 31;
  xor.b64 z, z, t;
  shr.u64 t, z, 32;
  cvt.u32.u64 word, t;
  ret;
}
)";

// Four bytes at a time: byte = base + (r & mask), modulo 256, with the sign bit flipped where r & sign has it. Bytes are added
// without carries between them: the low 7 bits as a sum, the top bit as an exclusive or. `bits` is mask = ~0, base = sign = 0.
constexpr const char* kFillWordsBody = R"(
  add.u64 %rd5, %rd3, 3;
  shr.u64 %rd5, %rd5, 2;
NEXT:
  setp.ge.u64 %p0, %rd0, %rd5;
  @%p0 bra DONE;
  call (%r6), ladder_word, (%rd4, %rd0);
  and.b32 %r7, %r6, %r3;
  and.b32 %r8, %r7, 0x7f7f7f7f;
  and.b32 %r9, %r4, 0x7f7f7f7f;
  add.u32 %r8, %r8, %r9;
  xor.b32 %r9, %r7, %r4;
  and.b32 %r9, %r9, 0x80808080;
  xor.b32 %r8, %r8, %r9;
  and.b32 %r9, %r6, %r5;
  xor.b32 %r8, %r8, %r9;
  shl.b64 %rd6, %rd0, 2;
  add.u64 %rd7, %rd2, %rd6;
  add.u64 %rd8, %rd6, 4;
  setp.gt.u64 %p1, %rd8, %rd3;
  @%p1 bra TAIL;
  st.global.u32 [%rd7], %r8;
  add.u64 %rd0, %rd0, %rd1;
  bra NEXT;
TAIL:
  setp.ge.u64 %p0, %rd6, %rd3;
  @%p0 bra DONE;
  st.global.u8 [%rd7], %r8;
  shr.u32 %r8, %r8, 8;
  add.u64 %rd6, %rd6, 1;
  add.u64 %rd7, %rd7, 1;
  bra TAIL;
DONE:
  ret;
}
)";

// Element i becomes fma(float(u(i) >> 8)·2⁻²⁴, span, low), then `convertAndStore` from %f2 to [%rd7].
std::string uniformKernel(const std::string& type, int bytesLog2, const std::string& convertAndStore) {
  return "\n.visible .entry ladder_fill_" + type + R"((
  .param .u64 target, .param .u64 elements, .param .u64 key, .param .f32 low, .param .f32 span)
{
  .reg .pred %p<1>;
  .reg .b16 %h<1>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<9>;
  .reg .f32 %f<3>;
  ld.param.u64 %rd2, [target];
  ld.param.u64 %rd3, [elements];
  ld.param.u64 %rd4, [key];
  ld.param.f32 %f0, [low];
  ld.param.f32 %f1, [span];)" +
         kThreadIndex + R"(NEXT:
  setp.ge.u64 %p0, %rd0, %rd3;
  @%p0 bra DONE;
  call (%r3), ladder_word, (%rd4, %rd0);
  shr.u32 %r3, %r3, 8;
  cvt.rn.f32.u32 %f2, %r3;
  mul.f32 %f2, %f2, 0f33800000;
  fma.rn.f32 %f2, %f2, %f1, %f0;
  shl.b64 %rd6, %rd0, )" +
         std::to_string(bytesLog2) + ";\n  add.u64 %rd7, %rd2, %rd6;\n" + convertAndStore + R"(
  add.u64 %rd0, %rd0, %rd1;
  bra NEXT;
DONE:
  ret;
}
)";
}

constexpr const char* kFillWordsHead = R"(
.visible .entry ladder_fill_words(
  .param .u64 target, .param .u64 bytes, .param .u64 key, .param .u32 mask, .param .u32 base, .param .u32 sign)
{
  .reg .pred %p<2>;
  .reg .b32 %r<10>;
  .reg .b64 %rd<9>;
  ld.param.u64 %rd2, [target];
  ld.param.u64 %rd3, [bytes];
  ld.param.u64 %rd4, [key];
  ld.param.u32 %r3, [mask];
  ld.param.u32 %r4, [base];
  ld.param.u32 %r5, [sign];)";

// Reads 4 vectors per step and thread, far enough apart that each warp's reads are contiguous; the exclusive or of all is
// stored only in a case that the data cannot be relied on never to show, so the reads stay.
constexpr const char* kRead = R"(
.visible .entry ladder_read(.param .u64 source, .param .u64 vectors, .param .u64 sink)
{
  .reg .pred %p<1>;
  .reg .b32 %r<24>;
  .reg .b64 %rd<16>;
  ld.param.u64 %rd2, [source];
  ld.param.u64 %rd3, [vectors];
  ld.param.u64 %rd4, [sink];)";
constexpr const char* kReadBody = R"(
  mov.u32 %r20, 0;
  shl.b64 %rd5, %rd1, 4;
  mul.lo.u64 %rd6, %rd1, 3;
  shl.b64 %rd7, %rd1, 2;
FOUR:
  add.u64 %rd8, %rd0, %rd6;
  setp.ge.u64 %p0, %rd8, %rd3;
  @%p0 bra ONE;
  shl.b64 %rd9, %rd0, 4;
  add.u64 %rd9, %rd2, %rd9;
  add.u64 %rd10, %rd9, %rd5;
  add.u64 %rd11, %rd10, %rd5;
  add.u64 %rd12, %rd11, %rd5;
  ld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%rd9];
  ld.global.v4.u32 {%r7, %r8, %r9, %r10}, [%rd10];
  ld.global.v4.u32 {%r11, %r12, %r13, %r14}, [%rd11];
  ld.global.v4.u32 {%r15, %r16, %r17, %r18}, [%rd12];
  lop3.b32 %r3, %r3, %r4, %r5, 0x96;
  lop3.b32 %r6, %r6, %r7, %r8, 0x96;
  lop3.b32 %r9, %r9, %r10, %r11, 0x96;
  lop3.b32 %r12, %r12, %r13, %r14, 0x96;
  lop3.b32 %r15, %r15, %r16, %r17, 0x96;
  lop3.b32 %r3, %r3, %r6, %r9, 0x96;
  lop3.b32 %r12, %r12, %r15, %r18, 0x96;
  lop3.b32 %r20, %r20, %r3, %r12, 0x96;
  add.u64 %rd0, %rd0, %rd7;
  bra FOUR;
ONE:
  setp.ge.u64 %p0, %rd0, %rd3;
  @%p0 bra DONE;
  shl.b64 %rd9, %rd0, 4;
  add.u64 %rd9, %rd2, %rd9;
  ld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%rd9];
  lop3.b32 %r3, %r3, %r4, %r5, 0x96;
  lop3.b32 %r20, %r20, %r3, %r6, 0x96;
  add.u64 %rd0, %rd0, %rd1;
  bra ONE;
DONE:
  setp.ne.u32 %p0, %r20, 0x5eed1e55;
  @%p0 ret;
  st.global.u32 [%rd4], %r20;
  ret;
}
)";

// Keeps the stream busy while the host enqueues what is to be timed behind it.
constexpr const char* kDelay = R"(
.visible .entry ladder_delay(.param .u64 nanoseconds)
{
  .reg .pred %p<1>;
  .reg .b64 %rd<3>;
  ld.param.u64 %rd0, [nanoseconds];
  mov.u64 %rd1, %globaltimer;
  add.u64 %rd0, %rd0, %rd1;
WAIT:
  mov.u64 %rd2, %globaltimer;
  setp.lt.u64 %p0, %rd2, %rd0;
  @%p0 bra WAIT;
  ret;
}
)";

}  // namespace

std::string embeddedPtx() {
  std::string text = kPtxHeader;
  text += kWordFunction;
  text += kFillWordsHead;
  text += kThreadIndex;
  text += kFillWordsBody;
  text += uniformKernel("f16", 1, "  cvt.rn.f16.f32 %h0, %f2;\n  st.global.b16 [%rd7], %h0;");
  text += uniformKernel("bf16", 1, "  cvt.rn.bf16.f32 %h0, %f2;\n  st.global.b16 [%rd7], %h0;");
  text += uniformKernel("f32", 2, "  st.global.f32 [%rd7], %f2;");
  // Integers: the floor, whose low bits are stored.
  text += uniformKernel("i8", 0, "  cvt.rmi.s64.f32 %rd8, %f2;\n  st.global.u8 [%rd7], %rd8;");
  text += uniformKernel("i16", 1, "  cvt.rmi.s64.f32 %rd8, %f2;\n  st.global.u16 [%rd7], %rd8;");
  text += uniformKernel("i32", 2, "  cvt.rmi.s64.f32 %rd8, %f2;\n  st.global.u32 [%rd7], %rd8;");
  text += uniformKernel("i64", 3, "  cvt.rmi.s64.f32 %rd8, %f2;\n  st.global.u64 [%rd7], %rd8;");
  text += kRead;
  text += kThreadIndex;
  text += kReadBody;
  text += kDelay;
  return text;
}

}  // namespace ladder::cuda
