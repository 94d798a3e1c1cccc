/* What lies between the matrix products of a recurrent network, each in one pass over memory.

   torch does these with five to ten passes and as many allocations; beside products in int8 that is half of the time.
   Rows are computed one by one in a fixed order, so that none depends on its neighbours. Not a number stays not a
   number. One thread; the caller sees to it that blocks do not overlap, unless it says so. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LOG2_E 1.44269504088896340736f

/* 2^x to 1e-7 of its value, for |x| up to 126; beyond, that of the bound. The integer part goes into the exponent, the
   rest through the polynomial of degree 6 that interpolates 2^x at Chebyshev's points of [-1/2, 1/2]. */
static inline float exp2_of(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the lowest bits */
    x = x < -126.0f ? -126.0f : x;
    x = x > 126.0f ? 126.0f : x;
    float shifted = x + magic;
    float f = x - (shifted - magic);
    float p = 0.00015469732f;
    p = p * f + 0.00134004322f;
    p = p * f + 0.0096180256f;
    p = p * f + 0.0555032721f;
    p = p * f + 0.240226512f;
    p = p * f + 0.693147207f;
    p = p * f + 1.0f;
    int32_t exponent, bits;
    memcpy(&exponent, &shifted, 4);
    memcpy(&bits, &p, 4);
    bits += (int32_t)((uint32_t)exponent << 23);
    memcpy(&p, &bits, 4);
    return x == x ? p : x;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exp2_of(-LOG2_E * x)); }

static inline float tanh_of(float x) { return 2.0f / (1.0f + exp2_of(-2.0f * LOG2_E * x)) - 1.0f; }

/* Each row of x (n rows of d, `stride` apart) as bytes round(127 x / m) + 128, m the row's largest size; scale = factor
   * m / 127. A row that is not finite gets a scale that is not a number. Rows of bytes are `width` apart. */
void quantise(const float *restrict x, int64_t n, int64_t d, int64_t stride, float factor, int64_t width,
              uint8_t *restrict q, float *restrict scale) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * stride;
        float most = 1e-30f, probe = 0.0f;
#pragma omp simd reduction(max : most) reduction(+ : probe)
        for (int64_t j = 0; j < d; j++) {
            float size = fabsf(row[j]);
            most = size > most ? size : most;
            probe += row[j] * 0.0f; /* a maximum loses what is not a number; this does not */
        }
        float inverse = 127.0f / most;
        uint8_t *out = q + i * width;
#pragma omp simd
        for (int64_t j = 0; j < d; j++) out[j] = (uint8_t)(int32_t)(row[j] * inverse + 128.5f);
        scale[i] = factor * most / 127.0f + probe;
    }
}

/* out += offset, element by element, after out *= scale row by row; either may be missing. */
void rescale(float *restrict out, const float *restrict scale, const float *restrict offset, int64_t n, int64_t m,
             int64_t offset_stride) {
    for (int64_t i = 0; i < n; i++) {
        float *row = out + i * m;
        float by = scale ? scale[i] : 1.0f;
        if (offset) {
            const float *add = offset + i * offset_stride;
#pragma omp simd
            for (int64_t j = 0; j < m; j++) row[j] = row[j] * by + add[j];
        } else {
#pragma omp simd
            for (int64_t j = 0; j < m; j++) row[j] *= by;
        }
    }
}

/* The gates of an LSTM, blocks i, f, g, o of h numbers side by side (n rows), to h_t and c_t. `memory` is c_{t-1} with
   rows `stride` apart; new_memory may be the same place. */
void lstm_gates(const float *restrict gates, const float *memory, int64_t stride, int64_t n, int64_t h,
                float *restrict hidden, float *new_memory) {
    for (int64_t i = 0; i < n; i++) {
        const float *write = gates + i * 4 * h, *keep = write + h, *candidate = keep + h, *read = candidate + h;
        const float *before = memory + i * stride;
        float *out = hidden + i * h, *after = new_memory + i * h;
#pragma omp simd
        for (int64_t j = 0; j < h; j++) {
            float c = sigmoid(keep[j]) * before[j] + sigmoid(write[j]) * tanh_of(candidate[j]);
            after[j] = c;
            out[j] = sigmoid(read[j]) * tanh_of(c);
        }
    }
}

/* One tile of logits in base 2, n rows of m: z * scale + bias (either may be missing; z is overwritten). Keeps of each
   row the largest so far, `top`, the sum of 2^(z - top) so far, `total`, and in `found` the logit of its target if it
   lies in the tile, which begins at `first`. */
void log_sum_exp(float *restrict logits, const float *restrict scale, const float *restrict bias, int64_t n, int64_t m,
                 const int64_t *restrict targets, int64_t first, float *restrict top, float *restrict total,
                 float *restrict found) {
    for (int64_t i = 0; i < n; i++) {
        float *row = logits + i * m;
        float by = scale ? scale[i] : 1.0f, most = top[i], sum = 0.0f;
        if (bias) {
#pragma omp simd reduction(max : most)
            for (int64_t j = 0; j < m; j++) {
                row[j] = row[j] * by + bias[j];
                most = row[j] > most ? row[j] : most;
            }
        } else {
#pragma omp simd reduction(max : most)
            for (int64_t j = 0; j < m; j++) {
                row[j] *= by;
                most = row[j] > most ? row[j] : most;
            }
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < m; j++) sum += exp2_of(row[j] - most);
        total[i] = total[i] * exp2_of(top[i] - most) + sum;
        top[i] = most;
        int64_t target = targets[i] - first;
        if (target >= 0 && target < m) found[i] = row[target];
    }
}
