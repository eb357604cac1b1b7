// ONNX Runtime's operators nanotriton.SlotAttention and nanotriton.SlotAttentionInt8.
//
// Comes in: a step's packed queries, keys and values, and the caches of a prompt chunk and of the
// decode rows. Goes out: what the tokens attend; the new keys and values are written into the
// slots, whose memory past and present share. The cache is read once, by the threads of ONNX
// Runtime's own pool. Same inputs as the function of that name in the graph, which answers where
// this library isn't loaded (export/slot_attention.py). Nothing is read or written outside of the
// tensors: sizes that don't fit each other are an error of the call.

#include <climits>
#include <cstdio>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "ort_abi.h"
#include "work.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace slot_attention {

#if defined(__x86_64__)
#define NAME avx512
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#include "kernel.h"
#undef NAME
#undef LANES
#undef TARGET

#define NAME avx2
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#include "kernel.h"
#undef NAME
#undef LANES
#undef TARGET
#endif

#define NAME plain
#define LANES 8
#define TARGET
#include "kernel.h"

namespace {

enum Input {
    PACKED, ATTENDED, SEQLENS, TOTAL, PAST_K, PAST_V, CHUNK_ATTENDED, CHUNK_SEQLENS, CHUNK_TOTAL,
    CHUNK_PAST_K, CHUNK_PAST_V, ATTENTION_ROWS, NUM_INPUTS, KEY_SCALES = NUM_INPUTS, VALUE_SCALES,
    NUM_INPUTS_INT8
};
enum Output { OUT, PRESENT_K, PRESENT_V, CHUNK_PRESENT_K, CHUNK_PRESENT_V, NUM_OUTPUTS };

enum class Set { PLAIN, AVX2, AVX512 };

Set instruction_set() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return Set::AVX512;
    if (has_avx2) return Set::AVX2;
#endif
    return Set::PLAIN;
}

template <typename Cell>
Kernel pick_kernel(int64_t head_dim) {
#if defined(__x86_64__)
    const Set set = instruction_set();
    if (set == Set::AVX512 && head_dim % 16 == 0) return avx512::kernel<Cell>(head_dim);
    if (set != Set::PLAIN) return avx2::kernel<Cell>(head_dim);
#endif
    return plain::kernel<Cell>(head_dim);
}

struct Tensor {
    void* data = nullptr;
    int64_t shape[4] = {};
    size_t rank = 0;

    bool is(int64_t a) const { return rank == 1 && shape[0] == a; }
    bool is(int64_t a, int64_t b) const { return rank == 2 && shape[0] == a && shape[1] == b; }
    bool is(int64_t a, int64_t b, int64_t c, int64_t d) const {
        return rank == 4 && shape[0] == a && shape[1] == b && shape[2] == c && shape[3] == d;
    }
};

// The operator of one node; what it raises it returns.
struct Node {
    const ort::Api* api;
    int64_t num_heads;
    float scale;
    bool is_int8;

    ort::Status* refuse(const char* words) const {
        return ort::call(api, ort::CREATE_STATUS, ort::INVALID_ARGUMENT, words);
    }

    ort::Status* read(const ort::Value* value, Tensor& tensor) const {
        ort::Shape* shape = nullptr;
        if (auto* failed = ort::call(api, ort::GET_SHAPE, value, &shape)) return failed;
        auto* failed = ort::call(api, ort::GET_RANK, shape, &tensor.rank);
        if (!failed && tensor.rank > 4) failed = refuse("SlotAttention: a tensor has over 4 axes");
        if (!failed) failed = ort::call(api, ort::GET_DIMENSIONS, shape, tensor.shape, tensor.rank);
        ort::call(api, ort::RELEASE_SHAPE, shape);
        if (failed) return failed;
        return ort::call(api, ort::GET_DATA, const_cast<ort::Value*>(value), &tensor.data);
    }

    ort::Status* input(const ort::KernelContext* context, size_t index, Tensor& tensor) const {
        const ort::Value* value = nullptr;
        if (auto* failed = ort::call(api, ort::GET_INPUT, context, index, &value)) return failed;
        return read(value, tensor);
    }

    ort::Status* output(
        ort::KernelContext* context, size_t index, const int64_t* shape, size_t rank, void** data
    ) const {
        ort::Value* value = nullptr;
        if (auto* failed = ort::call(api, ort::GET_OUTPUT, context, index, shape, rank, &value))
            return failed;
        return ort::call(api, ort::GET_DATA, value, data);
    }

    // A cache that goes out; in the memory of the one that came in, or a copy of it.
    ort::Status* cache(ort::KernelContext* context, size_t index, Tensor& past) const {
        void* present = nullptr;
        if (auto* failed = output(context, index, past.shape, past.rank, &present)) return failed;
        if (present != past.data) {
            size_t size = is_int8 ? 1 : sizeof(float);
            for (size_t axis = 0; axis < past.rank; ++axis) size *= past.shape[axis];
            memmove(present, past.data, size);
        }
        past.data = present;
        return nullptr;
    }

    ort::Status* part(
        const Tensor& attended, const Tensor& seqlens, const Tensor& keys, const Tensor& values,
        const Work& work, int64_t num_tokens, Part& made
    ) const {
        const int64_t batch = attended.shape[0], tokens = attended.shape[1];
        const int64_t positions = keys.shape[2];
        if (attended.rank != 2 || keys.rank != 4 || !seqlens.is(batch) ||
            !keys.is(batch, work.num_heads, positions, work.head_dim) ||
            !values.is(batch, work.num_heads, positions, work.head_dim))
            return refuse("SlotAttention: a part's attended, seqlens_k and caches differ in size");
        if (positions == 1) return nullptr;
        made = {static_cast<const int64_t*>(attended.data),
                static_cast<const int32_t*>(seqlens.data),
                keys.data, values.data, batch, tokens, positions};
        for (int64_t at = 0; at < batch * tokens; ++at)
            if (made.attended[at] < 0 || made.attended[at] >= num_tokens)
                return refuse("SlotAttention: attended names a row that there isn't");
        for (int64_t row = 0; row < batch; ++row)
            if (made.length(row) < tokens || made.length(row) > positions)
                return refuse("SlotAttention: seqlens_k lies outside of its slot");
        return nullptr;
    }

    ort::Status* prepare(ort::KernelContext* context, Work& work) const {
        Tensor in[NUM_INPUTS_INT8];
        const size_t num_inputs = is_int8 ? NUM_INPUTS_INT8 : NUM_INPUTS;
        for (size_t index = 0; index < num_inputs; ++index)
            if (auto* failed = input(context, index, in[index])) return failed;
        const int64_t num_tokens = in[PACKED].shape[0], width = in[PACKED].shape[1] / 3;
        if (in[PACKED].rank != 2 || in[PACKED].shape[1] != 3 * width || width % num_heads ||
            width % (8 * num_heads) || width / num_heads > MAX_HEAD_DIM)
            return refuse("SlotAttention: heads have 8 to 256 dimensions, a multiple of 8");
        if (is_int8 && !(in[KEY_SCALES].is(width) && in[VALUE_SCALES].is(width)))
            return refuse("SlotAttention: there is one scale for each channel");
        const size_t caches[] = {PAST_K, PAST_V, CHUNK_PAST_K, CHUNK_PAST_V};
        for (size_t index = 0; index < 4; ++index)
            if (auto* failed = cache(context, PRESENT_K + index, in[caches[index]])) return failed;
        const int64_t shape[] = {num_tokens, width};
        void* out = nullptr;
        if (auto* failed = output(context, OUT, shape, 2, &out)) return failed;
        work = {static_cast<const float*>(in[PACKED].data), static_cast<float*>(out),
                is_int8 ? static_cast<const float*>(in[KEY_SCALES].data) : nullptr,
                is_int8 ? static_cast<const float*>(in[VALUE_SCALES].data) : nullptr,
                num_heads, width / num_heads, scale, {}, {}};
        if (auto* failed = part(in[CHUNK_ATTENDED], in[CHUNK_SEQLENS], in[CHUNK_PAST_K],
                                in[CHUNK_PAST_V], work, num_tokens, work.chunk))
            return failed;
        if (work.chunk.batch > 1) return refuse("SlotAttention: a chunk is of one sequence");
        if (auto* failed = part(in[ATTENDED], in[SEQLENS], in[PAST_K], in[PAST_V], work,
                                num_tokens, work.decode))
            return failed;
        if (work.decode.tokens > 1) return refuse("SlotAttention: a decode row is of one token");
        return nullptr;
    }

    ort::Status* compute(ort::KernelContext* context) const;
};

struct Round {
    const Work& work;
    Step step;
};

void do_one(void* round, size_t index) {
    const auto& given = *static_cast<const Round*>(round);
    given.step(given.work, static_cast<int64_t>(index));
}

ort::Status* Node::compute(ort::KernelContext* context) const {
    Work work{};
    if (auto* failed = prepare(context, work)) return failed;
    const Kernel kernel =
        is_int8 ? pick_kernel<int8_t>(work.head_dim) : pick_kernel<float>(work.head_dim);
    if (work.chunk.tokens) {
        Round round{work, kernel.write};
        if (auto* failed = ort::call(
                api, ort::PARALLEL_FOR, context, do_one, size_t(num_heads), size_t(0), &round))
            return failed;
    }
    Round round{work, kernel.attend};
    return ort::call(
        api, ort::PARALLEL_FOR, context, do_one, size_t(work.tasks()), size_t(0), &round);
}

template <bool IS_INT8>
struct Operator : ort::CustomOp {
    Operator() : ort::CustomOp{} {
        version = ort::API_VERSION;
        create_kernel_v2 = create;
        compute_v2 = [](void* node, ort::KernelContext* context) {
            return static_cast<const Node*>(node)->compute(context);
        };
        destroy = [](void* node) { delete static_cast<Node*>(node); };
        get_name = [](const CustomOp*) {
            return IS_INT8 ? "SlotAttentionInt8" : "SlotAttention";
        };
        get_provider = [](const CustomOp*) -> const char* { return nullptr; };  // the CPU's
        get_input_count = [](const CustomOp*) -> size_t {
            return IS_INT8 ? NUM_INPUTS_INT8 : NUM_INPUTS;
        };
        get_output_count = [](const CustomOp*) -> size_t { return NUM_OUTPUTS; };
        get_input_type = input_type;
        get_output_type = [](const CustomOp*, size_t index) {
            return index == OUT || !IS_INT8 ? ort::FLOAT : ort::INT8;
        };
        get_input_characteristic = [](const CustomOp*, size_t) { return ort::REQUIRED; };
        get_output_characteristic = [](const CustomOp*, size_t) { return ort::REQUIRED; };
        get_input_memory = [](const CustomOp*, size_t) { return ort::DEFAULT; };
        get_start_version = [](const CustomOp*) { return 1; };
        get_end_version = [](const CustomOp*) { return INT_MAX; };
    }

    static ort::ElementType input_type(const CustomOp*, size_t index) {
        switch (index) {
            case SEQLENS: case TOTAL: case CHUNK_SEQLENS: case CHUNK_TOTAL: return ort::INT32;
            case ATTENDED: case CHUNK_ATTENDED: case ATTENTION_ROWS: return ort::INT64;
            case PAST_K: case PAST_V: case CHUNK_PAST_K: case CHUNK_PAST_V:
                return IS_INT8 ? ort::INT8 : ort::FLOAT;
            default: return ort::FLOAT;
        }
    }

    static ort::Status* create(
        const CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** made
    ) {
        Node node{api, 0, 0, IS_INT8};
        if (auto* failed = ort::call(api, ort::GET_INT, info, "num_heads", &node.num_heads))
            return failed;
        if (auto* failed = ort::call(api, ort::GET_FLOAT, info, "scale", &node.scale)) return failed;
        if (node.num_heads < 1) return node.refuse("SlotAttention: num_heads is below 1");
        *made = new (std::nothrow) Node(node);
        return *made ? nullptr : ort::call(api, ort::CREATE_STATUS, ort::FAIL, "out of memory");
    }
};

}  // namespace
}  // namespace slot_attention

extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::ApiBase* base
) {
    using namespace slot_attention;
    static const Operator<false> float_operator;
    static const Operator<true> int8_operator;
    const ort::Api* api = base->get_api(ort::API_VERSION);
    if (!api) return nullptr;  // older than API_VERSION: the graph's own function answers
    static ort::Domain* domain = nullptr;  // one for all sessions, whose options may end first
    if (!domain) {
        if (auto* failed = ort::call(api, ort::CREATE_DOMAIN, "nanotriton", &domain)) return failed;
        for (const ort::CustomOp* one : {static_cast<const ort::CustomOp*>(&float_operator),
                                         static_cast<const ort::CustomOp*>(&int8_operator)})
            if (auto* failed = ort::call(api, ort::ADD_OPERATOR, domain, one)) return failed;
    }
    return ort::call(api, ort::ADD_DOMAIN, options, domain);
}

// The instructions that this processor's kernel is made of.
extern "C" __attribute__((visibility("default"))) const char* instruction_set_name() {
    using slot_attention::Set;
    const Set set = slot_attention::instruction_set();
    return set == Set::AVX512 ? "AVX-512" : set == Set::AVX2 ? "AVX2" : "plain";
}
