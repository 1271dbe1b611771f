/* Copy a block into its slot and take its XXH3-64 on the way: every byte is read once, and written past the caches.
 *
 * XXH3 after its public specification (xxhash_spec.md, "XXH3 Algorithm Description (for large inputs)"), seed 0: eight
 * lanes of 64 bits take in stripes of 64 bytes, and are scrambled behind every sixteenth; the last stripe is mixed with
 * another part of the secret. Stripes of a block that is made of whole ones never overlap, so what is copied is what is
 * hashed, register by register. Inputs that are shorter, or are not made of stripes, are left to the caller.
 *
 * Stores that bypass the caches need no line of the target to be read first, which is a third of the traffic of a plain
 * copy; nobody reads the slot soon, and the device's own copy stays in the cache instead. With AVX-512 it is no faster:
 * memory is what it waits for. The fence at the end is what orders these stores before the message that seals the block.
 */
#include <stdint.h>

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

enum { STRIPE = 64, STRIPES = 16, SECRET = 192, AHEAD = 512 };

#define PRIME32_1 0x9E3779B1u
#define PRIME32_2 0x85EBCA77u
#define PRIME32_3 0xC2B2AE3Du
#define PRIME64_1 0x9E3779B185EBCA87u
#define PRIME64_2 0xC2B2AE3D27D4EB4Fu
#define PRIME64_3 0x165667B19E3779F9u
#define PRIME64_4 0x85EBCA77C2B2AE63u
#define PRIME64_5 0x27D4EB2F165667C5u
#define PRIME_MX1 0x165667919E3779F9u

static const uint64_t lanes_at_first[8] = {
    PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1,
};

static const uint8_t secret[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t word(const uint8_t *bytes) {
    uint64_t read;
    memcpy(&read, bytes, sizeof read);
    return read;
}

static uint64_t folded(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t merged(const uint64_t lanes[8], uint64_t bytes) {
    uint64_t hash = bytes * PRIME64_1;
    for (int pair = 0; pair < 4; pair++) {
        const uint8_t *key = secret + 11 + 16 * pair;
        hash += folded(lanes[2 * pair] ^ word(key), lanes[2 * pair + 1] ^ word(key + 8));
    }
    hash ^= hash >> 37;
    hash *= PRIME_MX1;
    return hash ^ hash >> 32;
}

/* Half a stripe into half the lanes; each lane also takes its neighbour's data, so that no product by 0 loses any. */
__attribute__((target("avx2"))) static inline __m256i mixed(__m256i lanes, __m256i data, const uint8_t *key) {
    const __m256i keyed = _mm256_xor_si256(data, _mm256_loadu_si256((const __m256i *)key));
    const __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
    return _mm256_add_epi64(lanes, _mm256_add_epi64(_mm256_shuffle_epi32(data, 0x4E), product));
}

__attribute__((target("avx2"))) static inline __m256i scrambled(__m256i lanes, const uint8_t *key) {
    const __m256i prime = _mm256_set1_epi64x(PRIME32_1);
    lanes = _mm256_xor_si256(lanes, _mm256_srli_epi64(lanes, 47));
    lanes = _mm256_xor_si256(lanes, _mm256_loadu_si256((const __m256i *)key));
    const __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(lanes, 32), prime); /* 64 by 32 bits, in two halves */
    return _mm256_add_epi64(_mm256_mul_epu32(lanes, prime), _mm256_slli_epi64(high, 32));
}

__attribute__((target("avx2"))) static uint64_t copied_avx2(
    uint8_t *target, const uint8_t *source, uint64_t run_bytes, uint64_t stride_bytes, uint64_t runs
) {
    const uint64_t last = run_bytes * runs / STRIPE - 1;
    uint64_t stripe = 0;
    __m256i low = _mm256_loadu_si256((const __m256i *)lanes_at_first);
    __m256i high = _mm256_loadu_si256((const __m256i *)(lanes_at_first + 4));
    for (uint64_t run = 0; run < runs; run++, source += stride_bytes) {
        for (const uint8_t *from = source; from < source + run_bytes; from += STRIPE, target += STRIPE, stripe++) {
            _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
            const __m256i first = _mm256_loadu_si256((const __m256i *)from);
            const __m256i second = _mm256_loadu_si256((const __m256i *)(from + 32));
            _mm256_stream_si256((__m256i *)target, first);
            _mm256_stream_si256((__m256i *)(target + 32), second);
            const uint8_t *key = stripe == last ? secret + SECRET - STRIPE - 7 : secret + 8 * (stripe % STRIPES);
            low = mixed(low, first, key);
            high = mixed(high, second, key + 32);
            if (stripe % STRIPES == STRIPES - 1 && stripe != last) {
                low = scrambled(low, secret + SECRET - STRIPE);
                high = scrambled(high, secret + SECRET - STRIPE + 32);
            }
        }
    }
    _mm_sfence();
    uint64_t lanes[8];
    _mm256_storeu_si256((__m256i *)lanes, low);
    _mm256_storeu_si256((__m256i *)(lanes + 4), high);
    return merged(lanes, run_bytes * runs);
}

int32_t can_copy(void) { return __builtin_cpu_supports("avx2") != 0; }

/* runs of run_bytes each, stride_bytes apart at source, one behind the other at target; their XXH3-64 together.
 * run_bytes: a multiple of 64. target: aligned to 32. In all at least 256 bytes. */
uint64_t copied(uint8_t *target, const uint8_t *source, uint64_t run_bytes, uint64_t stride_bytes, uint64_t runs) {
    return copied_avx2(target, source, run_bytes, stride_bytes, runs);
}

#else

int32_t can_copy(void) { return 0; }

uint64_t copied(uint8_t *target, const uint8_t *source, uint64_t run_bytes, uint64_t stride_bytes, uint64_t runs) {
    (void)target, (void)source, (void)run_bytes, (void)stride_bytes, (void)runs;
    return 0;
}

#endif
