// Registers of LANES floats: loads, sums, turning round and e^x. Included by kernel.h, for each
// instruction set. Knows nothing of attention.

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef int8_t LooseBytes __attribute__((vector_size(LANES), aligned(1), may_alias));

KERNEL Floats load(const float* from) { return *reinterpret_cast<const Loose*>(from); }

KERNEL Floats load(const int8_t* from) {
#if LANES == 16
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
#else
    return __builtin_convertvector(*reinterpret_cast<const LooseBytes*>(from), Floats);
#endif
}

KERNEL void store(float* to, Floats values) { *reinterpret_cast<Loose*>(to) = values; }

// Lanes of which SPAN's bit is set from the second, the rest from the first; and the other halves.
template <int SPAN, int... LANE>
KERNEL Floats even_halves(Floats a, Floats b, std::integer_sequence<int, LANE...>) {
    return __builtin_shufflevector(a, b, (LANE & SPAN ? LANES + LANE - SPAN : LANE)...);
}

template <int SPAN, int... LANE>
KERNEL Floats odd_halves(Floats a, Floats b, std::integer_sequence<int, LANE...>) {
    return __builtin_shufflevector(a, b, (LANE & SPAN ? LANES + LANE : LANE + SPAN)...);
}

using Lanes = std::make_integer_sequence<int, LANES>;

// LANES vectors as rows of a matrix, turned round by halves of halves.
template <int SPAN = LANES / 2>
KERNEL void transpose(Floats* rows) {
    for (int first = 0; first < LANES; ++first) {
        if (first & SPAN) continue;
        const Floats a = rows[first], b = rows[first + SPAN];
        rows[first] = even_halves<SPAN>(a, b, Lanes());
        rows[first + SPAN] = odd_halves<SPAN>(a, b, Lanes());
    }
    if constexpr (SPAN > 1) transpose<SPAN / 2>(rows);
}

// The sum of each of LANES vectors, in a lane each.
template <int SPAN = LANES / 2>
KERNEL Floats sums(Floats* rows) {
    for (int first = 0; first < SPAN; ++first) {
        const Floats a = rows[first], b = rows[first + SPAN];
        rows[first] = even_halves<SPAN>(a, b, Lanes()) + odd_halves<SPAN>(a, b, Lanes());
    }
    if constexpr (SPAN > 1) return sums<SPAN / 2>(rows);
    return rows[0];
}

KERNEL float largest_lane(Floats values) {
    float found = values[0];
    for (int lane = 1; lane < LANES; ++lane) found = found > values[lane] ? found : values[lane];
    return found;
}

KERNEL float sum_lanes(Floats values) {
    float sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += values[lane];
    return sum;
}

// e^x for x <= 0, within 2e-7 of it; 0 below -87. The polynomial is that of Cephes' expf
// (https://www.netlib.org/cephes), the remainder of ln 2 in two parts as there.
KERNEL Floats exponential(Floats x) {
    const Floats least = Floats{} - 87.0f;
    const Floats bounded = x > least ? x : least;
    const float rounder = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
    const Floats power = (bounded * 1.44269504088896341f + rounder) - rounder;
    const Floats rest = bounded - power * 0.693359375f + power * 2.12194440e-4f;
    Floats series = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    series = series * rest * rest + rest + 1.0f;
    const Ints exponent = (__builtin_convertvector(power, Ints) + 127) << 23;
    const Floats result = series * (Floats)exponent;
    return x > least ? result : Floats{};
}
