/* Loops of operators and engine, each one pass over memory where torch takes two to thirty.

   They compute what the torch code beside each call computes, bit for bit: the same operations in
   the same order, fused only where torch fuses. So they are built with -ffp-contract=off, and no
   result depends on whether a machine had a compiler. Work goes in tiles that stay in the first
   cache; compilers turn each inner loop into vector instructions. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define TILE 1024
#define SIGN 0x80000000u

/* One body for each generation of x86, chosen when loaded: GCC 12 and later. A compiler that does not
   know the word fails, the installation goes on without this file, and torch does the work. */
#ifdef __x86_64__
#define FAST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FAST
#endif

enum { FLOAT32, BFLOAT16, FLOAT64 };
static const int BYTES[] = {4, 2, 8};

static inline uint32_t bits(float x) {
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static inline float real(uint32_t b) {
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* Entries of x from `at` on as float32: themselves, or widened into room. */
static inline const float *floats(const void *x, int kind, int64_t at, int size, float *room) {
    if (kind == FLOAT32) return (const float *)x + at;
    const uint16_t *from = (const uint16_t *)x + at;
    for (int i = 0; i < size; i++) room[i] = real((uint32_t)from[i] << 16);
    return room;
}

/* out[j] = tensors[j] - base, what is not above bounds[j] in magnitude zeroed; without bounds, the
   magnitudes. */
FAST void changes(int64_t k, int64_t n, int kind, const void *const *tensors, const void *base,
                  const float *bounds, float *restrict out) {
    float ground[TILE], wide[TILE];
    for (int64_t at = 0; at < n; at += TILE) {
        int size = n - at < TILE ? (int)(n - at) : TILE;
        const float *b = floats(base, kind, at, size, ground);
        for (int64_t j = 0; j < k; j++) {
            const float *x = floats(tensors[j], kind, at, size, wide);
            float *to = out + j * n + at, bound = bounds ? bounds[j] : 0.0f;
            if (bounds)
                for (int i = 0; i < size; i++) {
                    float change = x[i] - b[i];
                    to[i] = change >= -bound && change <= bound ? 0.0f : change;
                }
            else
                for (int i = 0; i < size; i++) to[i] = fabsf(x[i] - b[i]);
        }
    }
}

/* to = x of n entries, rounded to the kind as torch does it: to bfloat16 by way of float32. */
static inline void rounded(int n, const double *restrict x, int kind, void *restrict to) {
    if (kind == FLOAT64)
        memcpy(to, x, n * sizeof *x);
    else if (kind == FLOAT32)
        for (int i = 0; i < n; i++) ((float *)to)[i] = (float)x[i];
    else
        for (int i = 0; i < n; i++) {
            float y = (float)x[i];
            uint32_t b = bits(y);
            ((uint16_t *)to)[i] = y != y ? 0x7FC0 : (uint16_t)((b + 0x7FFF + (b >> 16 & 1)) >> 16);
        }
}

/* out = sum of weights[j] * tensors[j], of n entries each, added in float64 in the order given, then
   rounded. Returns whether all sums are finite. */
FAST int weighted_sum(int64_t k, int64_t n, int kind, const void *const *tensors,
                      const double *weights, int written, void *restrict out) {
    int odd = 0;
    for (int64_t at = 0; at < n; at += TILE) {
        int size = n - at < TILE ? (int)(n - at) : TILE;
        double total[TILE] = {0};
        for (int64_t j = 0; j < k; j++) {
            double weight = weights[j];
            if (kind == BFLOAT16) {
                const uint16_t *x = (const uint16_t *)tensors[j] + at;
                for (int i = 0; i < size; i++)
                    total[i] = fma(weight, (double)real((uint32_t)x[i] << 16), total[i]);
            } else {
                const float *x = (const float *)tensors[j] + at;
                for (int i = 0; i < size; i++)
                    total[i] = fma(weight, (double)x[i], total[i]);
            }
        }
        for (int i = 0; i < size; i++) odd |= !(fabs(total[i]) < INFINITY);
        rounded(size, total, written, (char *)out + at * BYTES[written]);
    }
    return !odd;
}

/* out = base + scale * the weighted mean (or sum) of the changes that share the elected sign.

   weighted: votes count by their weights. normalize: divide by the weights that took part, but by
   `least` at least; where least is 0, by 1 in the place of 0. */
FAST void elect(int64_t k, int64_t n, const float *restrict base, const float *const *changes,
                const float *weights, int weighted, int normalize, float least, float scale,
                float *restrict out) {
    for (int64_t at = 0; at < n; at += TILE) {
        int size = n - at < TILE ? (int)(n - at) : TILE;
        double poll[TILE];
        uint32_t sign[TILE];
        float total[TILE], divisor[TILE];
        for (int64_t j = 0; j < k; j++) {
            const float *x = changes[j] + at;
            float weight = weighted ? weights[j] : 1.0f;
            if (j == 0)
                for (int i = 0; i < size; i++) poll[i] = (double)(x[i] * weight);
            else
                for (int i = 0; i < size; i++) poll[i] += (double)(x[i] * weight);
        }
        for (int i = 0; i < size; i++) sign[i] = bits((float)poll[i]) & SIGN;
        for (int64_t j = 0; j < k; j++) {
            const float *x = changes[j] + at;
            float weight = weights[j];
            for (int i = 0; i < size; i++) {
                float agreeing = real(bits(x[i] * weight) ^ sign[i]);
                agreeing = 0.0f > agreeing ? 0.0f : agreeing;
                float part = agreeing > 0.0f ? weight : 0.0f * weight;
                total[i] = j ? total[i] + agreeing : agreeing;
                divisor[i] = j ? divisor[i] + part : part;
            }
        }
        if (normalize)
            for (int i = 0; i < size; i++) {
                float by = divisor[i];
                by = least > 0.0f ? (least > by ? least : by) : (by == 0.0f ? 1.0f : by);
                total[i] /= by;
            }
        if (scale != 1.0f)
            for (int i = 0; i < size; i++) total[i] *= scale;
        for (int i = 0; i < size; i++) out[at + i] = real(bits(total[i]) ^ sign[i]) + base[at + i];
    }
}

/* Count the entries above high, at it or above, and at low; put those between into held, in order.

   counts: those three are added. Returns how many are held. */
FAST int64_t tally(int64_t n, const float *restrict x, float low, float high,
                   float *restrict held, int64_t *restrict counts) {
    int64_t inside = 0;
    for (int64_t at = 0; at < n; at += TILE, x += TILE) {
        int size = n - at < TILE ? (int)(n - at) : TILE;
        int over = 0, top = 0, bottom = 0;
        uint8_t between[TILE] = {0};
        for (int i = 0; i < size; i++) {
            over += x[i] > high;
            top += x[i] >= high;
            bottom += x[i] == low;
            between[i] = (x[i] > low) & (x[i] < high);
        }
        counts[0] += over;
        counts[1] += top;
        counts[2] += bottom;
        for (int word = 0; word < size; word += 8) { /* few are held: eight are passed by at once */
            uint64_t any;
            memcpy(&any, between + word, sizeof any);
            for (int i = word; any && i < word + 8 && i < size; i++) {
                held[inside] = x[i];
                inside += between[i];
            }
        }
    }
    return inside;
}
