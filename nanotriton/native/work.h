// What one call of the operator is to do, after its inputs were checked: plain pointers and sizes.
//
// Axis letters are the repository's: N tokens, B batch, T tokens of the chunk, H heads, M positions
// of a slot, D head dimension. Knows nothing of ONNX Runtime.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slot_attention {

constexpr int64_t MAX_HEAD_DIM = 256;
constexpr int64_t TILE = 64;  // queries that share what is read of the cache

// B sequences of T new tokens: the chunk (B = 1) or the decode rows (T = 1). None when M is 1: such
// a cache stands for a part that the call lacks.
struct Part {
    const int64_t* attended;  // (B, T), which of the N rows
    const int32_t* seqlens;   // (B,), tokens after this call, less one
    void* keys;               // (B, H, M, D)
    void* values;
    int64_t batch, tokens, positions;

    int64_t length(int64_t row) const { return int64_t(seqlens[row]) + 1; }
};

struct Work {
    const float* packed;  // (N, 3 * H * D), queries, keys and values of each token
    float* out;           // (N, H * D)
    const float* key_scales;  // (H * D,), of an int8 cache
    const float* value_scales;
    int64_t num_heads, head_dim;
    float scale;
    Part chunk, decode;

    int64_t tiles() const { return (chunk.tokens + TILE - 1) / TILE; }
    int64_t tasks() const { return num_heads * (tiles() + decode.batch); }
};

using Step = void (*)(const Work&, int64_t index);

// How an instruction set does a call: first `write` for every head, if there is a chunk, then
// `attend` for every task; those of either may run at the same time.
struct Kernel {
    Step write, attend;
};

}  // namespace slot_attention
