// Every kernel that this processor can run, on random calls in buffers of just the size needed:
// built with sanitizers by tests/runners/test_kernels.py. Prints the largest difference from plain
// sums in double, for each kernel.

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "../../nanotriton/native/attention.cpp"

using namespace slot_attention;

struct Call {
    std::vector<float> packed, out, key_scales, value_scales;
    std::vector<int64_t> chunk_attended, attended;
    std::vector<int32_t> chunk_seqlens, seqlens;
    std::vector<uint8_t> caches[4];
    Work work{};
};

template <typename Cell>
void fill(std::vector<uint8_t>& bytes, size_t count, std::mt19937& random) {
    bytes.resize(count * sizeof(Cell));
    std::uniform_real_distribution<float> uniform(-1, 1);
    auto* cells = reinterpret_cast<Cell*>(bytes.data());
    for (size_t at = 0; at < count; ++at)
        cells[at] = Cell(uniform(random) * (sizeof(Cell) == 1 ? 127 : 1));
}

template <typename Cell>
Call make_call(std::mt19937& random, int64_t dim_step) {
    auto below = [&](int64_t end) { return int64_t(random() % uint64_t(end)); };
    Call call;
    const int64_t heads = 1 + below(3), dim = dim_step * (1 + below(MAX_HEAD_DIM / dim_step));
    const int64_t positions = 2 + below(200), batch = below(4);
    const int64_t tokens = batch ? below(positions) : 1 + below(positions - 1);
    const int64_t width = heads * dim, num_tokens = tokens + batch;
    std::uniform_real_distribution<float> uniform(-1, 1);
    call.packed.resize(num_tokens * 3 * width);
    for (auto& value : call.packed) value = uniform(random);
    call.out.assign(num_tokens * width, NAN);
    if (sizeof(Cell) == 1)
        for (auto* scales : {&call.key_scales, &call.value_scales})
            for (int64_t at = 0; at < width; ++at) scales->push_back(0.01f + 0.01f * uniform(random) / 2);
    for (int64_t at = 0; at < num_tokens; ++at)
        (at < tokens ? call.chunk_attended : call.attended).push_back(at);
    if (tokens) call.chunk_seqlens = {int32_t(tokens + below(positions - tokens + 1) - 1)};
    for (int64_t row = 0; row < batch; ++row) call.seqlens.push_back(int32_t(below(positions)));
    for (int at = 0; at < 4; ++at)
        fill<Cell>(call.caches[at], (at < 2 ? (tokens ? 1 : 0) : batch) * positions * width, random);
    call.work = {call.packed.data(), call.out.data(),
                 sizeof(Cell) == 1 ? call.key_scales.data() : nullptr,
                 sizeof(Cell) == 1 ? call.value_scales.data() : nullptr, heads, dim, 0.5f, {}, {}};
    if (tokens)
        call.work.chunk = {call.chunk_attended.data(), call.chunk_seqlens.data(),
                           call.caches[0].data(), call.caches[1].data(), 1, tokens, positions};
    if (batch)
        call.work.decode = {call.attended.data(), call.seqlens.data(), call.caches[2].data(),
                            call.caches[3].data(), batch, 1, positions};
    return call;
}

// The largest difference of a part's rows from sums in double over what now lies in the caches.
template <typename Cell>
double difference(const Work& work, const Part& part) {
    double largest = 0;
    const int64_t dim = work.head_dim, width = work.num_heads * dim;
    auto cell = [&](const void* cells, const float* scales, int64_t row, int64_t head,
                    int64_t position, int64_t at) {
        const int64_t place = ((row * work.num_heads + head) * part.positions + position) * dim + at;
        return double(static_cast<const Cell*>(cells)[place]) * (scales ? scales[head * dim + at] : 1);
    };
    for (int64_t row = 0; row < part.batch; ++row)
        for (int64_t token = 0; token < part.tokens; ++token)
            for (int64_t head = 0; head < work.num_heads; ++head) {
                const int64_t length = part.length(row) - part.tokens + token + 1;
                const int64_t place = part.attended[row * part.tokens + token];
                std::vector<double> weights(length), sum(dim);
                double total = 0;
                for (int64_t key = 0; key < length; ++key) {
                    for (int64_t at = 0; at < dim; ++at)
                        weights[key] += double(work.packed[place * 3 * width + head * dim + at]) *
                                        cell(part.keys, work.key_scales, row, head, key, at);
                    weights[key] = std::exp(weights[key] * work.scale);
                    total += weights[key];
                }
                for (int64_t at = 0; at < dim; ++at) {
                    for (int64_t key = 0; key < length; ++key)
                        sum[at] += weights[key] *
                                   cell(part.values, work.value_scales, row, head, key, at);
                    const double found = work.out[place * width + head * dim + at];
                    largest = std::max(largest, std::abs(found - sum[at] / total));
                    if (!(found == found)) largest = INFINITY;
                }
            }
    return largest;
}

template <typename Cell>
void check(const char* name, Kernel (*pick)(int64_t), int64_t dim_step) {
    std::mt19937 random(7);
    double largest = 0;
    for (int round = 0; round < 60; ++round) {
        const Call call = make_call<Cell>(random, dim_step);
        const Kernel kernel = pick(call.work.head_dim);
        if (call.work.chunk.tokens)
            for (int64_t head = 0; head < call.work.num_heads; ++head) kernel.write(call.work, head);
        for (int64_t index = 0; index < call.work.tasks(); ++index) kernel.attend(call.work, index);
        largest = std::max(largest, difference<Cell>(call.work, call.work.chunk));
        largest = std::max(largest, difference<Cell>(call.work, call.work.decode));
    }
    std::printf("%s %g\n", name, largest);
}

int main() {
    check<float>("plain-float32", plain::kernel<float>, 8);
    check<int8_t>("plain-int8", plain::kernel<int8_t>, 8);
#if defined(__x86_64__)
    if (instruction_set() == Set::PLAIN) return 0;
    check<float>("avx2-float32", avx2::kernel<float>, 8);
    check<int8_t>("avx2-int8", avx2::kernel<int8_t>, 8);
    if (instruction_set() == Set::AVX2) return 0;
    check<float>("avx512-float32", avx512::kernel<float>, 16);
    check<int8_t>("avx512-int8", avx512::kernel<int8_t>, 16);
#endif
}
