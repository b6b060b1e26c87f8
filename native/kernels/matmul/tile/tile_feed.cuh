// How a block of tile.cuh brings its operands into the ring: all threads copy, and what a stage takes is shared out evenly between
// the steps of the products. Of one tile after the other, without a break.
//
// Rows of x are gathered: a row of the product is a place of the kernel on an image, and of each of its taps the channels are read
// where they lie; zeros where a tap is outside. A thread copies the same units of several rows, so that it finds out once per panel
// which tap that is, and once per tile which taps of its rows are inside. In a stage rows of 128 bytes follow each other, pieces of 16
// bytes XOR row & 7: ldmatrix and copies meet no bank twice.
//
// With kPatches rows of x are the patches of image planes, k their (channel, line, column): 16 bytes are 8 pixels of a line, and lie where
// the row's patch begins and the piece of k is within it.
// Of a second product the rows of another x follow, one place each: `panel` counts on through both products' panels.
//
// Units are 16 bytes, or the largest power of two that divides a place's channels. What cp.async cannot copy (2 bytes and single
// ones: three channels of an image) is loaded, and stored 16 bytes at a time.
#pragma once
#include "matmul/tile/tile_block.cuh"

namespace ladder {

/// Where a row of the product reads: its first tap's place on the images, perhaps outside.
template <class C>
struct TilePlace {
  int y, x, place;

  __device__ __forceinline__ explicit TilePlace(int row) {
    const int image = row / (C::kOutHeight * C::kOutWidth), within = row % (C::kOutHeight * C::kOutWidth);
    y = within / C::kOutWidth * C::kStrideY - C::kPaddingY, x = within % C::kOutWidth * C::kStrideX - C::kPaddingX;
    place = (image * C::kHeight + y) * C::kWidth + x;
  }

  __device__ __forceinline__ bool isInside(int tap) const {
    return static_cast<uint32_t>(y + tap / C::kKernelX) < C::kHeight && static_cast<uint32_t>(x + tap % C::kKernelX) < C::kWidth;
  }
};

/// The same in a word, from a tile's first place on: places, then a bit for each tap that is inside.
template <class C>
struct TileTaps {
  using L = TileBlock<C>;
  static constexpr bool kFits = L::kTaps <= 12;
  static_assert(!kFits ||
                (C::kTileRows / (C::kOutHeight * C::kOutWidth) + 2ll) * C::kHeight * C::kWidth < 1ll << (31 - (kFits ? L::kTaps : 0)));
  int packed;

  __device__ __forceinline__ void enter(int row, int first) {
    const TilePlace<C> at(row);
    packed = (at.place - first) << L::kTaps;
    if (row < L::kM) {
#pragma unroll
      for (int i = 0; i < L::kTaps; ++i) packed |= at.isInside(i) ? 1 << i : 0;
    }
  }
  __device__ __forceinline__ bool has(int tap) const { return packed >> tap & 1; }
  __device__ __forceinline__ int place(int first) const { return first + (packed >> L::kTaps); }
};

/// Where patches of image planes lie, in pieces of 8 pixels.
template <class C>
struct TilePatch {
  static constexpr int kLine = C::kKernelX / 8, kImageLine = C::kWidth / 8;
  static_assert(!C::kPatches || (C::kKernelX % 8 == 0 && C::kWidth % C::kKernelX == 0 && C::kHeight % C::kKernelY == 0));
  static_assert(!C::kPatches || static_cast<int64_t>(C::kImages) * C::kChannels * C::kHeight * kImageLine < 1ll << 31);

  /// The first piece of a row's patch.
  __device__ __forceinline__ static int originOf(int row) {
    const int image = row / (C::kOutHeight * C::kOutWidth), within = row % (C::kOutHeight * C::kOutWidth);
    return (image * C::kChannels * C::kHeight + within / C::kOutWidth * C::kKernelY) * kImageLine + within % C::kOutWidth * kLine;
  }

  /// A piece of k, from the patch's first one.
  __device__ __forceinline__ static int offsetOf(int piece) {
    const int line = piece / kLine;
    return (line / C::kKernelY * C::kHeight + line % C::kKernelY) * kImageLine + piece % kLine;
  }
};

template <class C>
struct TileFeed {
  using L = TileBlock<C>;
  static constexpr int kThreads = L::kBlockThreads;

  const TileArguments& p;
  const uint32_t base;
  uint32_t stage;
  int tile, panel;
  const int startPanel, endPanel;

  __device__ __forceinline__ TileFeed(const TileArguments& arguments, uint32_t firstStage, int rank)
      : p(arguments), base(firstStage), stage(firstStage), tile(blockIdx.x / C::kSplit), panel(L::firstPanel(rank)), startPanel(panel),
        endPanel(L::firstPanel(rank + 1)) {
    enterTile();
  }

  /// Part of kParts of the stage.
  template <int kPart, int kParts>
  __device__ __forceinline__ void copy() {
    if (tile < L::kTiles) {
#pragma unroll
      for (int i = kCopies * kPart / kParts; i < kCopies * (kPart + 1) / kParts; ++i) {
        if (i < kRowCopies) copyRows(i);
        else copyWeights(i - kRowCopies);
      }
      if constexpr (kPart == 0) {
        if constexpr (L::kMx) {
          storeRowScales(stage, rowScales);
          copyWeightScales();
        }
        copyTerms();
      }
    }
    if constexpr (kPart == kParts - 1) commitCopies();
  }

  /// All stages but the last: weights, and then, when earlier kernels have written it, all else. What goes through registers is loaded for
  /// all of these stages before any of it is stored, so that it is on its way together.
  __device__ __forceinline__ void fill() {
    constexpr int kFilled = C::kStages - 1;
    uint4 loaded[L::kDecoded ? kFilled : 1][L::kDecoded ? kWeightCopies : 1];
    TileFeed early = *this;
#pragma unroll
    for (int i = 0; i < kFilled; ++i) {
      if (early.tile < L::kTiles) {
#pragma unroll
        for (int j = 0; j < kWeightCopies; ++j) {
          if constexpr (L::kDecoded) loaded[i][j] = early.packed[j];
          else early.copyWeights(j);
        }
        if constexpr (L::kMx) early.copyWeightScales();
        early.copyTerms();
      }
      early.advance(stageAfter(i));
    }
    if constexpr (L::kDecoded) {
#pragma unroll
      for (int i = 0; i < kFilled; ++i) {
#pragma unroll
        for (int j = 0; j < kWeightCopies; ++j) decodePiece(loaded[i][j], base + i * L::kStageBytes, j);
      }
    }
    launchDependents();
    waitForPrerequisites();
    // Those that were loaded before may have been another input's.
    loadRowScales();
    uint32_t scales[kFilled];
    if constexpr (L::kMx) {
      TileFeed ahead = *this;
#pragma unroll
      for (int i = 0; i < kFilled; ++i) {
        scales[i] = ahead.rowScales;
        ahead.advance(stageAfter(i));
      }
    }
#pragma unroll
    for (int i = 0; i < kFilled; ++i) {
      if (tile < L::kTiles) {
#pragma unroll
        for (int j = 0; j < kRowCopies; ++j) copyRows(j);
      }
      commitCopies();
      advance(stageAfter(i));
    }
    if constexpr (L::kMx) {
#pragma unroll
      for (int i = 0; i < kFilled; ++i) storeRowScales(base + i * L::kStageBytes, scales[i]);
    }
  }

  /// After all parts.
  __device__ __forceinline__ void advance(uint32_t nextStage) {
    stage = nextStage;
    if (++panel < endPanel) {
      enterPanel();
    } else if (C::kSplit > 1) {
      tile = L::kTiles;
    } else {
      panel = 0;
      tile += C::kBlocks;
      if (tile < L::kTiles) enterTile();
    }
  }

  /// A piece of a chunk, 4 bits: of row `piece` % 8 a step; 1 bit: of row `piece` all of them. Half of a step is a piece of 16 bytes.
  /// @param part which of kParts parts of its halves
  template <int kParts = 1>
  __device__ __forceinline__ static void decode(const uint4& words, uint32_t chunk, int piece, int part = 0) {
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
    constexpr bool kNibbles = L::T::kIsNibble;
#pragma unroll
    for (int i = 0; i < kPieceHalves / kParts; ++i) {
      const int half = part * (kPieceHalves / kParts) + i;
      uint32_t bytes[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) bytes[j] = kNibbles ? decodeNibbles(w[j], half) : decodeBits(w[j], half);
      const int to = kNibbles ? piece / 8 * 2 + half : half;
      storeShared16(chunk + to * 128 + piece % 8 * 16, make_uint4(bytes[0], bytes[1], bytes[2], bytes[3]));
    }
  }

 private:
  __device__ __forceinline__ uint32_t stageAfter(int i) const { return base + (i + 1) * L::kStageBytes; }

  // ---- Rows ---------------------------------------------------------------------------------------------------------------

  static constexpr int largestUnit(int bytes) {
    return bytes % 16 == 0 ? 16 : bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : bytes % 2 == 0 ? 2 : 1;
  }
  static constexpr int kUnit = C::kPatches ? 16 : largestUnit(L::kRowBytes);
  /// Of a place's channels, of a panel, of all taps.
  static constexpr int kPlaceUnits = L::kRowBytes / kUnit, kPanelUnits = 128 / kUnit, kUnits = L::kK * L::kXBytes / kUnit;
  /// Whether units are loaded one by one; a thread then has pieces of one row.
  static constexpr bool kSingle = !C::kPatches && (kUnit < 4 || !TileTaps<C>::kFits);
  static_assert(!kSingle || kThreads % C::kTileRows == 0);
  static constexpr int kRowCopies = kSingle ? 8 * C::kTileRows / kThreads : C::kTileRows * kPanelUnits / kThreads;
  /// Rows between two copies of a thread.
  static constexpr int kRowStep = kThreads / kPanelUnits > 0 ? kThreads / kPanelUnits : 1;
  static_assert(kSingle || C::kTileRows * kPanelUnits % kThreads == 0);
  static constexpr bool kGathered = !kSingle && !L::kLinear && !C::kPatches;
  static constexpr bool kSecondGathered = L::kSecond && !L::kSecondLinear;
  static_assert(!L::kSecond || (kUnit == 16 && !kSingle && L::kSecondRowBytes % 16 == 0));

  TileTaps<C> places[kGathered ? kRowCopies : 1];
  int secondPlaces[kSecondGathered ? kRowCopies : 1];
  /// Where the rows' patches begin.
  int origins[C::kPatches ? kRowCopies : 1];
  /// The tile's first place; of a linear x the thread's first row. How many rows there are from the thread's first on.
  int first, rowsLeft;
  /// The thread's unit of the panel: its tap, its bytes from the tap of the first place, and whether there is one.
  int tap;
  int64_t offset;
  bool exists;

  __device__ __forceinline__ static int column() { return threadIdx.x % kPanelUnits; }
  __device__ __forceinline__ static int firstRow() { return kSingle ? threadIdx.x % C::kTileRows : threadIdx.x / kPanelUnits; }

  /// Whether the panel is one of the second product, and its place there.
  __device__ __forceinline__ bool isSecond() const { return L::kSecond && panel >= L::kPanels; }
  __device__ __forceinline__ int secondPanel() const { return panel - L::kPanels; }

  __device__ __forceinline__ void enterTile() {
    const int row = L::rowOf(tile) + firstRow();
    rowsLeft = L::kM - row;
    if constexpr (L::kLinear) {
      first = row;
    } else if constexpr (C::kPatches) {
#pragma unroll
      for (int i = 0; i < kRowCopies; ++i) origins[i] = TilePatch<C>::originOf(row + i * kRowStep);
    } else {
      first = TilePlace<C>(L::rowOf(tile)).place;
    }
    if constexpr (kSecondGathered) {
#pragma unroll
      for (int i = 0; i < kRowCopies; ++i) secondPlaces[i] = L::secondPlace(row + i * kRowStep);
    }
    if constexpr (kGathered) {
#pragma unroll
      for (int i = 0; i < kRowCopies; ++i) places[i].enter(row + i * kRowStep, first);
    }
    if constexpr (L::kMx && !L::kLinear) scalePlace.enter(L::rowOf(tile) + threadIdx.x % C::kTileRows, first);
    const int chunk = L::outputOf(tile) / 8 + pieceOfThread() / kChunkPieces;
    chunksLeft = L::kChunks - chunk;
    weights = weightsAt(chunk);
    enterColumn();
  }

  __device__ __forceinline__ void enterPanel() {
    if (L::kSecond && panel == L::kPanels) weights = weightsAt(L::outputOf(tile) / 8 + pieceOfThread() / kChunkPieces);
    else weights += L::kChunkBytes;
    enterColumn();
  }

  /// The thread's piece of a chunk's panel.
  __device__ __forceinline__ const uint8_t* weightsAt(int chunk) const {
    const size_t ofChunk =
        isSecond() ? static_cast<size_t>(chunk) * L::kSecondPanels + secondPanel() : static_cast<size_t>(chunk) * L::kPanels + panel;
    return (isSecond() ? p.weight2 : p.weight) + ofChunk * L::kChunkBytes + pieceOfThread() % kChunkPieces * 16;
  }

  __device__ __forceinline__ static int64_t offsetOf(int ofTap, int unit) {
    return static_cast<int64_t>(ofTap / C::kKernelX * C::kWidth + ofTap % C::kKernelX) * L::kRowBytes + unit * kUnit;
  }

  __device__ __forceinline__ void enterColumn() {
    loadPacked();
    loadRowScales();
    if constexpr (C::kPatches) {
      offset = TilePatch<C>::offsetOf(panel * kPanelUnits + column());
    } else if (isSecond()) {
      const int unit = secondPanel() * kPanelUnits + column();
      exists = L::kSecondRowBytes % 128 == 0 || unit * kUnit < L::kSecondRowBytes;
      offset = unit * kUnit;
    } else if constexpr (!kSingle) {
      const int unit = panel * kPanelUnits + column();
      exists = L::kPanels * kPanelUnits == kUnits || unit < kUnits;
      tap = L::kTaps == 1 ? 0 : unit / kPlaceUnits;
      offset = L::kTaps == 1 ? unit * kUnit : offsetOf(tap, unit % kPlaceUnits);
    }
  }

  __device__ __forceinline__ static uint32_t swizzled(int row, int byte) { return row * 128 + ((byte / 16 ^ row & 7) * 16 | byte % 16); }

  __device__ __forceinline__ void copyRows(int copy) const {
    const uint8_t* const x = static_cast<const uint8_t*>(p.x);
    if constexpr (kSingle) {
      copySingly(copy, x);
    } else {
      const int row = firstRow() + copy * kRowStep;
      const uint32_t to =
          stage + (kRowStep % 8 == 0 ? swizzled(firstRow(), column() * kUnit) + copy * kRowStep * 128 : swizzled(row, column() * kUnit));
      if (isSecond()) {
        const uint8_t* const x2 = static_cast<const uint8_t*>(p.x2);
        const bool isThere = exists && (L::kM % C::kTileRows == 0 || copy * kRowStep < rowsLeft);
        const int place = kSecondGathered ? secondPlaces[kSecondGathered ? copy : 0] : L::kM - rowsLeft + copy * kRowStep;
        copyOrZero<16>(to, isThere ? x2 + static_cast<int64_t>(place) * L::kSecondRowBytes + offset : x2, isThere);
      } else if constexpr (L::kLinear) {
        const bool isThere = exists && (L::kM % C::kTileRows == 0 || copy * kRowStep < rowsLeft);
        const uint8_t* const from = x + static_cast<int64_t>(first) * L::kRowBytes + offset + copy * (kRowStep * L::kRowBytes);
        copyOrZero<kUnit>(to, isThere ? from : x, isThere);
      } else if constexpr (C::kPatches) {
        const bool isThere = L::kM % C::kTileRows == 0 || copy * kRowStep < rowsLeft;
        copyOrZero<kUnit>(to, isThere ? x + (origins[copy] + offset) * kUnit : x, isThere);
      } else {
        const bool isThere = exists && places[copy].has(tap);
        copyOrZero<kUnit>(to, isThere ? x + static_cast<int64_t>(places[copy].place(first)) * L::kRowBytes + offset : x, isThere);
      }
    }
  }

  /// A piece of the thread's row, unit by unit. All lanes of a warp have the same units of k.
  __device__ __forceinline__ void copySingly(int copy, const uint8_t* x) const {
    using Unit = std::conditional_t<kUnit == 1, uint8_t, uint16_t>;
    constexpr int kLoaded = sizeof(Unit), kPieceUnits = 16 / kLoaded;
    constexpr int kLoadedPlaceUnits = L::kRowBytes / kLoaded;
    const int row = threadIdx.x % C::kTileRows;
    const int piece = uniform(threadIdx.x / C::kTileRows) * kRowCopies + copy;
    const int ofAll = L::rowOf(tile) + row;
    const TilePlace<C> at(ofAll);
    const uint8_t* const from = x + static_cast<int64_t>(L::kLinear ? ofAll : at.place) * L::kRowBytes;
    uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < kPieceUnits; ++i) {
      const int unit = (panel * 8 + piece) * kPieceUnits + i, ofTap = unit / kLoadedPlaceUnits;
      const bool isThere = ofAll < L::kM && unit < L::kTaps * kLoadedPlaceUnits && (L::kLinear || at.isInside(ofTap));
      const int64_t offset = static_cast<int64_t>(ofTap / C::kKernelX * C::kWidth + ofTap % C::kKernelX) * L::kRowBytes;
      const uint32_t value = isThere ? *reinterpret_cast<const Unit*>(from + offset + unit % kLoadedPlaceUnits * kLoaded) : Unit{0};
      words[i * kLoaded / 4] |= value << i * kLoaded % 4 * 8;
    }
    storeShared16(stage + swizzled(row, piece * 16), make_uint4(words[0], words[1], words[2], words[3]));
  }

  // ---- Weights ------------------------------------------------------------------------------------------------------------

  static constexpr int kChunkPieces = L::kChunkBytes / 16, kWeightPieces = C::kTileOutputs / 8 * kChunkPieces;
  static constexpr int kWeightCopies = (kWeightPieces + kThreads - 1) / kThreads, kChunkStep = kThreads / kChunkPieces;
  static constexpr int kCopies = kRowCopies + kWeightCopies;
  static_assert(kThreads % kChunkPieces == 0);
  /// Where there are more threads than pieces to decode, several share each of them.
  static constexpr int kPieceHalves = L::T::kIsNibble ? 2 : 8;
  static constexpr int kSharers = L::kDecoded && kThreads % kWeightPieces == 0 ? kThreads / kWeightPieces : 1;
  static constexpr int kDecodeParts = kSharers < kPieceHalves ? kSharers : kPieceHalves;
  static_assert(kPieceHalves % kDecodeParts == 0);
  __device__ __forceinline__ static int pieceOfThread() { return threadIdx.x % (kDecodeParts > 1 ? kWeightPieces : kThreads); }

  const uint8_t* weights;
  int chunksLeft;
  /// What this thread decodes next.
  uint4 packed[L::kDecoded ? kWeightCopies : 1];

  /// Whether the thread has a `copy`th piece of a tile's.
  __device__ __forceinline__ static bool isPiece(int copy) {
    constexpr int kUsed = kWeightPieces * kDecodeParts;
    return kUsed % kThreads == 0 || copy * kThreads + static_cast<int>(threadIdx.x) < kUsed;
  }

  /// Past the weights shared memory stays as it is: each output's sums are its own, and those are dropped.
  __device__ __forceinline__ bool hasWeights(int copy) const {
    return isPiece(copy) && (L::kChunks % (C::kTileOutputs / 8) == 0 || copy * kChunkStep < chunksLeft);
  }
  __device__ __forceinline__ const uint8_t* weightsOf(int copy) const {
    return weights + static_cast<size_t>(copy * kChunkStep) * (isSecond() ? L::kSecondPanels : L::kPanels) * L::kChunkBytes;
  }

  __device__ __forceinline__ void copyWeights(int copy) const {
    if (!hasWeights(copy)) return;
    if constexpr (L::kDecoded) decodePiece(packed[copy], stage, copy);
    else copyAsync16(stage + L::kWeightsAt + (copy * kThreads + threadIdx.x) * 16, weightsOf(copy));
  }

  /// The thread's `copy`th piece, or its part of it, into a stage; past a tile's pieces nothing.
  __device__ __forceinline__ static void decodePiece(const uint4& words, uint32_t into, int copy) {
    const int piece = copy * kThreads + pieceOfThread();
    if (isPiece(copy))
      decode<kDecodeParts>(words, into + L::kWeightsAt + piece / kChunkPieces * 1024, piece % kChunkPieces, threadIdx.x / kWeightPieces);
  }

  __device__ __forceinline__ void loadPacked() {
    if constexpr (L::kDecoded) {
      if (tile >= L::kTiles) return;
#pragma unroll
      for (int i = 0; i < kWeightCopies; ++i)
        if (hasWeights(i)) packed[i] = *reinterpret_cast<const uint4*>(weightsOf(i));
    }
  }

  // ---- Terms --------------------------------------------------------------------------------------------------------------

  /// With a tile's first stage come the scales and biases of its weight rows.
  __device__ __forceinline__ void copyTerms() const {
    if (panel == startPanel) L::template copyTerms<kThreads>(p, base + L::termsOf(tile), L::outputOf(tile));
  }

  // ---- Scales of MX ---------------------------------------------------------------------------------------------------------

  static constexpr int kPlaceScales = C::kChannels / 32, kSecondPlaceScales = C::Second::kChannels / 32;
  static_assert(!L::kMx || (C::kChannels % 32 == 0 && C::Second::kChannels % 32 == 0));
  static_assert(!L::kMx || (TileTaps<C>::kFits && kThreads >= C::kTileRows && kThreads * 4 >= C::kTileOutputs && C::kTileOutputs % 8 == 0));

  TileTaps<C> scalePlace;

  /// Of the row whose scales this thread brings.
  __device__ __forceinline__ bool hasScale(int ofTap) const {
    return L::kLinear ? L::rowOf(tile) + static_cast<int>(threadIdx.x) < L::kM : scalePlace.has(ofTap);
  }
  __device__ __forceinline__ int firstScale() const { return L::kLinear ? L::rowOf(tile) + threadIdx.x : scalePlace.place(first); }

  /// The next panel's scales of the thread's row, in a register from one panel to the next: nobody waits for them.
  uint32_t rowScales;

  __device__ __forceinline__ void loadRowScales() {
    if constexpr (L::kMx) {
      if (tile >= L::kTiles || threadIdx.x >= C::kTileRows) return;
      rowScales = 0;
      if (isSecond()) {
        if constexpr (L::kSecond) {
          const int row = L::rowOf(tile) + threadIdx.x;
          if (row < L::kM)
            loadScalesOf<kSecondPlaceScales>(
                p.xScale2, secondPanel() * 4, kSecondPlaceScales, [&](int) { return static_cast<int64_t>(L::secondPlace(row)); },
                [](int) { return true; });
        }
      } else {
        loadScalesOf<kPlaceScales>(
            p.xScale, panel * 4, L::kTaps * kPlaceScales,
            [&](int ofTap) { return static_cast<int64_t>(firstScale() + ofTap / C::kKernelX * C::kWidth + ofTap % C::kKernelX); },
            [&](int ofTap) { return hasScale(ofTap); });
      }
    }
  }

  /// A panel's four scales from block `first` on of `blocks`, kPlace of them at a place. @param placeOf, hasTap of a tap
  template <int kPlace, typename PlaceOf, typename HasTap>
  __device__ __forceinline__ void loadScalesOf(const void* from, int first, int blocks, const PlaceOf& placeOf, const HasTap& hasTap) {
    constexpr int kTogether = kPlace % 4 == 0 ? 4 : kPlace % 2 == 0 ? 2 : 1;
    using Codes = std::conditional_t<kTogether == 4, uint32_t, std::conditional_t<kTogether == 2, uint16_t, uint8_t>>;
    const uint8_t* const scales = static_cast<const uint8_t*>(from);
#pragma unroll
    for (int i = 0; i < 4; i += kTogether) {
      const int block = first + i, ofTap = block / kPlace;
      if (block < blocks && hasTap(ofTap))
        rowScales |= static_cast<uint32_t>(*reinterpret_cast<const Codes*>(scales + placeOf(ofTap) * kPlace + block % kPlace)) << i * 8;
    }
  }

  __device__ __forceinline__ static void storeRowScales(uint32_t into, uint32_t ofRow) {
    if (threadIdx.x < C::kTileRows)
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(into + L::kXScalesAt + threadIdx.x * 4), "r"(ofRow) : "memory");
  }

  __device__ __forceinline__ void copyWeightScales() const {
    const int thread = threadIdx.x;
    if (thread < C::kTileOutputs / 4 && L::outputOf(tile) / 8 + thread / 2 < L::kChunks) {
      const size_t chunk = L::outputOf(tile) / 8 + thread / 2;
      const size_t block = isSecond() ? chunk * L::kSecondPanels + secondPanel() : chunk * L::kPanels + panel;
      copyAsync16(stage + L::kScalesAt + thread * 16,
                  static_cast<const uint8_t*>(isSecond() ? p.scale2 : p.scale) + block * 32 + thread % 2 * 16);
    }
  }
};

}  // namespace ladder
