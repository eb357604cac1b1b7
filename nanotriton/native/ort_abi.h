// The part of ONNX Runtime's C interface that a custom operator calls; its wheel brings no header.
//
// `OrtApi` is a table of functions to which releases only append, so a place in it never changes.
// Places and signatures are those of include/onnxruntime/core/session/onnxruntime_c_api.h of
// https://github.com/microsoft/onnxruntime (1.17 to 1.31). Knows nothing of attention.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t API_VERSION = 17;  // the first whose table has KernelContext_ParallelFor

enum ErrorCode { FAIL = 1, INVALID_ARGUMENT = 2 };
enum ElementType { FLOAT = 1, INT8 = 3, INT32 = 6, INT64 = 7 };
enum Characteristic { REQUIRED = 0 };
enum MemoryType { DEFAULT = 0 };

struct Status;
struct SessionOptions;
struct Domain;
struct Value;
struct Shape;  // OrtTensorTypeAndShapeInfo
struct KernelInfo;
struct KernelContext;
struct Api;  // a table, read by `call`

struct ApiBase {
    const Api* (*get_api)(uint32_t version);
    const char* (*get_version)();
};

// One function of the table: its place and its type.
template <size_t PLACE, typename Signature>
struct Function {};

template <size_t PLACE, typename Result, typename... Arguments, typename... Given>
inline Result call(
    const Api* api, Function<PLACE, Result(Arguments...)>, Given... arguments
) {
    using Pointer = Result (*)(Arguments...);
    return reinterpret_cast<const Pointer*>(api)[PLACE](arguments...);
}

constexpr Function<0, Status*(ErrorCode, const char*)> CREATE_STATUS;
constexpr Function<26, Status*(const char*, Domain**)> CREATE_DOMAIN;
constexpr Function<27, Status*(Domain*, const struct CustomOp*)> ADD_OPERATOR;
constexpr Function<28, Status*(SessionOptions*, Domain*)> ADD_DOMAIN;
constexpr Function<51, Status*(Value*, void**)> GET_DATA;
constexpr Function<61, Status*(const Shape*, size_t*)> GET_RANK;
constexpr Function<62, Status*(const Shape*, int64_t*, size_t)> GET_DIMENSIONS;
constexpr Function<65, Status*(const Value*, Shape**)> GET_SHAPE;
constexpr Function<85, Status*(const KernelInfo*, const char*, float*)> GET_FLOAT;
constexpr Function<86, Status*(const KernelInfo*, const char*, int64_t*)> GET_INT;
constexpr Function<90, Status*(const KernelContext*, size_t, const Value**)> GET_INPUT;
constexpr Function<91, Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)> GET_OUTPUT;
constexpr Function<99, void(Shape*)> RELEASE_SHAPE;
constexpr Function<
    274, Status*(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>
    PARALLEL_FOR;

// What ONNX Runtime asks of an operator; fields that stay null are never called.
struct CustomOp {
    uint32_t version;
    void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
    const char* (*get_name)(const CustomOp*);
    const char* (*get_provider)(const CustomOp*);
    ElementType (*get_input_type)(const CustomOp*, size_t);
    size_t (*get_input_count)(const CustomOp*);
    ElementType (*get_output_type)(const CustomOp*, size_t);
    size_t (*get_output_count)(const CustomOp*);
    void (*compute)(void*, KernelContext*);
    void (*destroy)(void*);
    Characteristic (*get_input_characteristic)(const CustomOp*, size_t);
    Characteristic (*get_output_characteristic)(const CustomOp*, size_t);
    MemoryType (*get_input_memory)(const CustomOp*, size_t);
    int (*get_variadic_input_least)(const CustomOp*);
    int (*get_variadic_input_homogeneous)(const CustomOp*);
    int (*get_variadic_output_least)(const CustomOp*);
    int (*get_variadic_output_homogeneous)(const CustomOp*);
    Status* (*create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void**);
    Status* (*compute_v2)(void*, KernelContext*);
    void* infer_shape;
    int (*get_start_version)(const CustomOp*);
    int (*get_end_version)(const CustomOp*);
    void* of_later_versions[4];
};

}  // namespace ort
