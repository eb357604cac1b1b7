// Attention over slots for one instruction set: included once for each, see attention.cpp. First
// what one or a few tokens do, then what a tile of a chunk does, last the tasks of a call.
//
// TARGET is the attribute that lets a function use the set, NAME its namespace, LANES how many
// floats a register of it holds. A token's sums run over the keys in their order, in blocks that
// start at the slot's first position: nothing that runs beside it changes them.

namespace NAME {

#define KERNEL TARGET static inline __attribute__((always_inline))

#include "vectors.h"

constexpr int64_t BLOCK = 4 * LANES;  // keys between two looks at the largest score
constexpr int64_t MAX_VECTORS = MAX_HEAD_DIM / LANES;
constexpr int64_t FEW = 8;  // queries for which turning keys round doesn't pay

// Scores of one query over a block, and what it has seen before.
struct Softmax {
    float largest = -__builtin_inff();
    Floats total{};
};

// Scores to weights, those from `count` on to 0; by how much what was summed before shrinks.
KERNEL float weigh(Softmax& seen, float* scores, int64_t count) {
    const Floats nothing = Floats{} - __builtin_inff();
    for (int64_t at = count; at < BLOCK; ++at) scores[at] = nothing[0];
    Floats highest = nothing;
    for (int64_t at = 0; at < BLOCK; at += LANES) {
        const Floats here = load(scores + at);
        highest = highest > here ? highest : here;
    }
    const float before = seen.largest, now = largest_lane(highest);
    float shrink = 1;
    if (now > before) {
        shrink = exponential(Floats{} + (before - now))[0];
        seen.largest = now;
    }
    Floats total{};
    for (int64_t at = 0; at < BLOCK; at += LANES) {
        const Floats weights = exponential(load(scores + at) - seen.largest);
        store(scores + at, weights);
        total += weights;
    }
    seen.total = seen.total * shrink + total;
    return shrink;
}

// Rows of floats are long enough for the processor to guess what comes next, those of 8 bits not
// (256 positions of 32 rows, processor time: 0.74 of that without; of floats 1.1).
KERNEL void expect(const float*) {}
KERNEL void expect(const int8_t* row) { __builtin_prefetch(row); }

// One token attends `length` positions of its slot. VECTORS is D / LANES, or 0 for any.
template <int VECTORS, typename Cell>
KERNEL void attend_token(
    const float* query, const Cell* keys, const Cell* values, int64_t length, int64_t head_dim,
    float* out
) {
    const int64_t vectors = VECTORS ? VECTORS : head_dim / LANES;
    Floats sum[VECTORS ? VECTORS : MAX_VECTORS] = {};
    Softmax seen;
    for (int64_t start = 0; start < length; start += BLOCK) {
        const int64_t count = length - start < BLOCK ? length - start : BLOCK;
        const Cell* block_keys = keys + start * head_dim;
        const Cell* block_values = values + start * head_dim;
        alignas(64) float scores[BLOCK];
        for (int64_t first = 0; first < count; first += LANES) {
            Floats dots[LANES];
            for (int64_t lane = 0; lane < LANES; ++lane) {
                const int64_t key = first + lane < count ? first + lane : count - 1;
                const Cell* row = block_keys + key * head_dim;
                expect(block_values + key * head_dim);
                Floats dot = load(query) * load(row);
                for (int64_t at = 1; at < vectors; ++at)
                    dot += load(query + at * LANES) * load(row + at * LANES);
                dots[lane] = dot;
            }
            store(scores + first, sums(dots));
        }
        const float shrink = weigh(seen, scores, count);
        if (shrink != 1)
            for (int64_t at = 0; at < vectors; ++at) sum[at] *= shrink;
        for (int64_t key = 0; key < count; ++key) {
            expect(block_keys + (key + BLOCK) * head_dim);
            for (int64_t at = 0; at < vectors; ++at)
                sum[at] += scores[key] * load(block_values + key * head_dim + at * LANES);
        }
    }
    const float total = sum_lanes(seen.total);
    for (int64_t at = 0; at < vectors; ++at) store(out + at * LANES, sum[at] / total);
}

// A block's keys as columns, (D, BLOCK), and its values as floats, (count, D).
template <typename Cell>
KERNEL void turn_keys(const Cell* keys, int64_t count, int64_t head_dim, float* columns) {
    for (int64_t first = 0; first < BLOCK; first += LANES)
        for (int64_t at = 0; at < head_dim; at += LANES) {
            Floats rows[LANES];
            for (int64_t lane = 0; lane < LANES; ++lane)
                rows[lane] =
                    first + lane < count ? load(keys + (first + lane) * head_dim + at) : Floats{};
            transpose(rows);
            for (int64_t lane = 0; lane < LANES; ++lane)
                store(columns + (at + lane) * BLOCK + first, rows[lane]);
        }
}

KERNEL const float* as_floats(const float* values, int64_t, float*) { return values; }

KERNEL const float* as_floats(const int8_t* values, int64_t count, float* room) {
    for (int64_t at = 0; at < count; at += LANES) store(room + at, load(values + at));
    return room;
}

// ROWS x COLUMNS registers of left (rows, inner) times right (inner, columns), added to `out`.
template <int ROWS, int COLUMNS>
KERNEL void multiply_piece(
    const float* left, int64_t left_width, const float* right, int64_t right_width, int64_t inner,
    float* out, int64_t out_width
) {
    Floats sum[ROWS][COLUMNS];
    for (int row = 0; row < ROWS; ++row)
        for (int at = 0; at < COLUMNS; ++at)
            sum[row][at] = load(out + row * out_width + at * LANES);
    for (int64_t step = 0; step < inner; ++step)
        for (int row = 0; row < ROWS; ++row)
            for (int at = 0; at < COLUMNS; ++at)
                sum[row][at] +=
                    left[row * left_width + step] * load(right + step * right_width + at * LANES);
    for (int row = 0; row < ROWS; ++row)
        for (int at = 0; at < COLUMNS; ++at)
            store(out + row * out_width + at * LANES, sum[row][at]);
}

template <int COLUMNS>
KERNEL void multiply_columns(
    const float* left, int64_t left_width, const float* right, int64_t right_width, int64_t rows,
    int64_t inner, float* out, int64_t out_width
) {
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4)
        multiply_piece<4, COLUMNS>(
            left + row * left_width, left_width, right, right_width, inner, out + row * out_width,
            out_width
        );
    for (; row < rows; ++row)
        multiply_piece<1, COLUMNS>(
            left + row * left_width, left_width, right, right_width, inner, out + row * out_width,
            out_width
        );
}

TARGET static void multiply(
    const float* left, int64_t left_width, const float* right, int64_t right_width, int64_t rows,
    int64_t inner, int64_t columns, float* out, int64_t out_width
) {
    constexpr int WIDE = LANES == 16 ? 4 : 2;  // as many as registers hold beside 4 rows
    int64_t at = 0;
    for (; at + WIDE * LANES <= columns; at += WIDE * LANES)
        multiply_columns<WIDE>(
            left, left_width, right + at, right_width, rows, inner, out + at, out_width
        );
    for (; at < columns; at += LANES)
        multiply_columns<1>(
            left, left_width, right + at, right_width, rows, inner, out + at, out_width
        );
}

// Up to TILE tokens of a chunk, (rows, D), the first of which sees `first_length` positions.
template <typename Cell>
KERNEL void attend_tile(
    const float* queries, int64_t rows, const Cell* keys, const Cell* values, int64_t first_length,
    int64_t head_dim, float* out
) {
    alignas(64) float columns[MAX_HEAD_DIM * BLOCK], room[MAX_HEAD_DIM * BLOCK];
    alignas(64) float scores[TILE * BLOCK];
    Softmax seen[TILE];
    const int64_t end = first_length + rows - 1;
    memset(out, 0, rows * head_dim * sizeof(float));
    for (int64_t start = 0; start < end; start += BLOCK) {
        const int64_t count = end - start < BLOCK ? end - start : BLOCK;
        const int64_t before = start - first_length + 1;  // rows that see nothing of this block
        const int64_t first = before > 0 ? before : 0;
        turn_keys(keys + start * head_dim, count, head_dim, columns);
        memset(scores, 0, sizeof(scores));
        multiply(
            queries + first * head_dim, head_dim, columns, BLOCK, rows - first, head_dim, BLOCK,
            scores, BLOCK
        );
        for (int64_t row = first; row < rows; ++row) {
            const int64_t seen_here = first_length + row - start;
            float* of_row = scores + (row - first) * BLOCK;
            const float shrink = weigh(
                seen[row], of_row, seen_here < count ? seen_here : count
            );
            if (shrink != 1)
                for (int64_t at = 0; at < head_dim; ++at) out[row * head_dim + at] *= shrink;
        }
        const float* floats = as_floats(values + start * head_dim, count * head_dim, room);
        multiply(
            scores, BLOCK, floats, head_dim, rows - first, count, head_dim,
            out + first * head_dim, head_dim
        );
    }
    for (int64_t row = 0; row < rows; ++row) {
        const float total = sum_lanes(seen[row].total);
        for (int64_t at = 0; at < head_dim; ++at) out[row * head_dim + at] /= total;
    }
}

KERNEL void write_cells(float* to, const float* from, const float*, int64_t head_dim) {
    memcpy(to, from, head_dim * sizeof(float));
}

// To the nearest step of each channel's scale, ties to even, as ONNX Runtime rounds.
KERNEL void write_cells(int8_t* to, const float* from, const float* scales, int64_t head_dim) {
    const float rounder = 12582912.0f;
    for (int64_t at = 0; at < head_dim; ++at) {
        float steps = from[at] / scales[at];
        steps = steps < 127.0f ? steps : 127.0f;
        steps = steps > -128.0f ? steps : -128.0f;
        to[at] = int8_t(int32_t((steps + rounder) - rounder));
    }
}

// The new keys and values of one sequence and head into its slot.
template <typename Cell>
KERNEL void write_head(const Work& work, const Part& part, int64_t row, int64_t head) {
    const int64_t width = work.num_heads * work.head_dim, channel = head * work.head_dim;
    for (int64_t token = 0; token < part.tokens; ++token) {
        const int64_t position = part.length(row) - part.tokens + token;
        const int64_t cell = ((row * work.num_heads + head) * part.positions + position);
        const float* from =
            work.packed + part.attended[row * part.tokens + token] * 3 * width + channel;
        write_cells(
            static_cast<Cell*>(part.keys) + cell * work.head_dim, from + width,
            work.key_scales ? work.key_scales + channel : nullptr, work.head_dim
        );
        write_cells(
            static_cast<Cell*>(part.values) + cell * work.head_dim, from + 2 * width,
            work.value_scales ? work.value_scales + channel : nullptr, work.head_dim
        );
    }
}

// A query times `scale` and, over an int8 cache, what each channel's step is worth.
KERNEL void scale_query(const Work& work, const float* from, int64_t channel, float* query) {
    for (int64_t at = 0; at < work.head_dim; ++at)
        query[at] =
            from[at] * work.scale * (work.key_scales ? work.key_scales[channel + at] : 1.0f);
}

KERNEL void put_out(const Work& work, const float* values, int64_t channel, float* out) {
    for (int64_t at = 0; at < work.head_dim; ++at)
        out[at] = values[at] * (work.value_scales ? work.value_scales[channel + at] : 1.0f);
}

// `count` tokens of one sequence and head, from `first` on.
template <typename Cell, int VECTORS>
TARGET static void attend_head(
    const Work& work, const Part& part, int64_t row, int64_t head, int64_t first, int64_t count
) {
    alignas(64) float queries[TILE * MAX_HEAD_DIM], found[TILE * MAX_HEAD_DIM];
    const int64_t dim = work.head_dim, width = work.num_heads * dim, channel = head * dim;
    const int64_t slot = (row * work.num_heads + head) * part.positions * dim;
    const Cell* keys = static_cast<const Cell*>(part.keys) + slot;
    const Cell* values = static_cast<const Cell*>(part.values) + slot;
    const int64_t first_length = part.length(row) - part.tokens + first + 1;
    const int64_t* attended = part.attended + row * part.tokens + first;
    for (int64_t at = 0; at < count; ++at)
        scale_query(work, work.packed + attended[at] * 3 * width + channel, channel, queries + at * dim);
    if (count < FEW)
        for (int64_t at = 0; at < count; ++at)
            attend_token<VECTORS>(
                queries + at * dim, keys, values, first_length + at, dim, found + at * dim
            );
    else
        attend_tile(queries, count, keys, values, first_length, dim, found);
    for (int64_t at = 0; at < count; ++at)
        put_out(work, found + at * dim, channel, work.out + attended[at] * width + channel);
}

template <typename Cell>
TARGET static void write(const Work& work, int64_t head) {
    write_head<Cell>(work, work.chunk, 0, head);
}

// Tiles of the chunk come first, its last ones, which take longest, before the others.
template <typename Cell, int VECTORS>
TARGET static void attend(const Work& work, int64_t index) {
    const int64_t head = index % work.num_heads, piece = index / work.num_heads;
    if (piece < work.tiles()) {
        const int64_t first = (work.tiles() - 1 - piece) * TILE, rest = work.chunk.tokens - first;
        attend_head<Cell, VECTORS>(work, work.chunk, 0, head, first, rest < TILE ? rest : TILE);
        return;
    }
    const int64_t row = piece - work.tiles();
    write_head<Cell>(work, work.decode, row, head);
    attend_head<Cell, VECTORS>(work, work.decode, row, head, 0, 1);
}

template <typename Cell>
static Kernel kernel(int64_t head_dim) {
    constexpr int COMMON = 64 / LANES;
    return {write<Cell>, head_dim == 64 ? attend<Cell, COMMON> : attend<Cell, 0>};
}

#undef KERNEL

}  // namespace NAME
