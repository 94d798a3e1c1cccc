/* Matrix products of a recurrent network's inference, with what follows them done while the sums are in registers.

   A tile is 6 rows of inputs by 64 outputs, 24 vectors of 16 sums: as many as AVX-512 has registers for, beside the 4
   that hold weights and the one that holds an input. Weights lie in panels of 64 outputs in the order in which a tile
   reads them (kernels.py packs them), so the inner loop is loads, broadcasts and multiply-adds alone (Goto & van de Geijn
   2008). A panel, 128 KB at 512 inputs, stays in the second cache while the rows of a group pass by.

   In int8 an input is a byte around 128 with a scale a row, a weight a signed byte with a scale an output; sums are
   exact. Each row's sums run over the inputs in the same order however many rows there are, so no result depends on a
   row's neighbours. What is not a number stays not a number. One thread. */

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
#include <immintrin.h>

#define LANES 16
#define COLUMNS 4 /* vectors of outputs in a tile */
#define PANEL (COLUMNS * LANES)
#define ROWS 6   /* rows of inputs in a tile */
#define GROUP 240 /* rows that pass a panel before the next one is read: 480 KB at 512 inputs */

typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));

static const float LOG2_E = 1.44269504088896340736f;
static const float BELOW_ALL = -1e30f;

/* Inputs and weights of a product. `bytes` says which of the two kinds they are. */
typedef struct {
    const void *inputs;     /* n x depth, float or bytes; of bytes, depth is a multiple of 4 */
    int64_t stride;         /* from row to row, in elements */
    const float *row_scale; /* of bytes: n */
    float factor;           /* of floats: on every result */
    const void *weights;    /* panels x depth x 64, or panels x depth/4 x 64 x 4 */
    const float *scale;     /* of bytes: each output's, panels x 64 */
    const int32_t *surplus; /* of bytes: 128 times the sum of each output's weights */
    int64_t depth, bytes;
} Product;

#define INLINE static inline __attribute__((always_inline))

INLINE floats load(const float *from, __mmask16 mask) { return (floats)_mm512_maskz_loadu_ps(mask, from); }
INLINE void store(float *to, __mmask16 mask, floats x) { _mm512_mask_storeu_ps(to, mask, (__m512)x); }
INLINE floats all(float x) { return (floats)_mm512_set1_ps(x); }
/* Of two, one not a number: the second. So what is not a number goes on from there. */
INLINE floats larger(floats a, floats b) { return (floats)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE floats smaller(floats a, floats b) { return (floats)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE __mmask16 lanes(int64_t count) { return count >= LANES ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1); }

/* 2^x to 1e-7 of its value for |x| up to `bound`, beyond that of the bound: the polynomial of kernels.c. */
INLINE floats exp2_within(floats x, float bound) {
    x = larger(all(-bound), smaller(all(bound), x));
    floats whole = (floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    floats f = x - whole;
    floats p = all(0.00015469732f);
    p = p * f + all(0.00134004322f);
    p = p * f + all(0.0096180256f);
    p = p * f + all(0.0555032721f);
    p = p * f + all(0.240226512f);
    p = p * f + all(0.693147207f);
    p = p * f + all(1.0f);
    return (floats)_mm512_scalef_ps((__m512)p, (__m512)whole);
}

/* out[r][c] = rows `row` to `row + rows` of the inputs times panel `panel`. `rows` and `bytes` are constants. */
INLINE void tile(const int rows, const int bytes, const Product *p, int64_t row, int64_t panel, floats out[ROWS][COLUMNS]) {
    if (bytes) {
        const uint8_t *inputs = (const uint8_t *)p->inputs + row * p->stride;
        const int8_t *weights = (const int8_t *)p->weights + panel * PANEL * p->depth;
        ints sums[ROWS][COLUMNS];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < COLUMNS; c++) sums[r][c] = (ints){0};
#if defined(__AVX512VNNI__)
        for (int64_t k = 0; k < p->depth; k += 4, weights += 4 * PANEL) {
            const ints *w = (const ints *)weights;
            ints w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, inputs + r * p->stride + k, 4);
                __m512i x = _mm512_set1_epi32(four);
                sums[r][0] = (ints)_mm512_dpbusd_epi32((__m512i)sums[r][0], x, (__m512i)w0);
                sums[r][1] = (ints)_mm512_dpbusd_epi32((__m512i)sums[r][1], x, (__m512i)w1);
                sums[r][2] = (ints)_mm512_dpbusd_epi32((__m512i)sums[r][2], x, (__m512i)w2);
                sums[r][3] = (ints)_mm512_dpbusd_epi32((__m512i)sums[r][3], x, (__m512i)w3);
            }
        }
#endif
        for (int c = 0; c < COLUMNS; c++) {
            int64_t first = panel * PANEL + c * LANES;
            floats scale = load(p->scale + first, 0xffff);
            ints surplus = (ints)_mm512_loadu_si512(p->surplus + first);
            for (int r = 0; r < rows; r++)
                out[r][c] = (floats)_mm512_cvtepi32_ps((__m512i)(sums[r][c] - surplus)) * scale * all(p->row_scale[row + r]);
        }
    } else {
        const float *inputs = (const float *)p->inputs + row * p->stride;
        const float *weights = (const float *)p->weights + panel * PANEL * p->depth;
        floats sums[ROWS][COLUMNS];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < COLUMNS; c++) sums[r][c] = (floats){0};
        for (int64_t k = 0; k < p->depth; k++, weights += PANEL) {
            const floats *w = (const floats *)weights;
            floats w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                float x = inputs[r * p->stride + k];
                sums[r][0] += x * w0;
                sums[r][1] += x * w1;
                sums[r][2] += x * w2;
                sums[r][3] += x * w3;
            }
        }
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < COLUMNS; c++) out[r][c] = sums[r][c] * all(p->factor);
    }
}

/* Does rows `begin` to `end` of one panel, tile by tile: `finish(rows, row, panel, out)` after each, and before it
   `fetch(rows, row, panel)`, which asks for what `finish` will read: it comes while the tile is summed up. */
#define FETCH(address) __builtin_prefetch(address, 0, 2)
#define TILE_OF(count, bytes, fetch, finish)              \
    {                                                     \
        floats out[ROWS][COLUMNS];                        \
        fetch(count, row, panel);                         \
        tile(count, bytes, p, row, panel, out);           \
        finish(count, row, panel, out);                   \
        break;                                            \
    }
#define TILES(bytes, fetch, finish)                                                 \
    for (int64_t row = begin; row < end; row += ROWS) {                             \
        switch (end - row >= ROWS ? ROWS : end - row) {                             \
            case 6: TILE_OF(6, bytes, fetch, finish)                                \
            case 5: TILE_OF(5, bytes, fetch, finish)                                \
            case 4: TILE_OF(4, bytes, fetch, finish)                                \
            case 3: TILE_OF(3, bytes, fetch, finish)                                \
            case 2: TILE_OF(2, bytes, fetch, finish)                                \
            case 1: TILE_OF(1, bytes, fetch, finish)                                \
        }                                                                           \
    }
#define ALL_TILES(fetch, finish)  \
    if (p->bytes) {               \
        TILES(1, fetch, finish)   \
    } else {                      \
        TILES(0, fetch, finish)   \
    }

/* out (n x m) = inputs x weights + offset; offset is n x m with `offset_stride`, or m with stride 0, or absent. */
void product(const Product *p, int64_t n, int64_t m, const float *offset, int64_t offset_stride, float *result) {
#define FETCHES(rows, row, panel)                                                                              \
    if (offset_stride)                                                                                         \
        for (int r = 0; r < rows; r++)                                                                         \
            for (int c = 0; c < COLUMNS; c++) FETCH(offset + (row + r) * offset_stride + panel * PANEL + c * LANES);
#define FINISH(rows, row, panel, out)                                                      \
    for (int c = 0; c < COLUMNS; c++) {                                                    \
        int64_t first = panel * PANEL + c * LANES;                                         \
        __mmask16 mask = lanes(m - first);                                                 \
        for (int r = 0; r < rows; r++) {                                                   \
            floats x = out[r][c];                                                          \
            if (offset) x += load(offset + (row + r) * offset_stride + first, mask);       \
            store(result + (row + r) * m + first, mask, x);                                \
        }                                                                                  \
    }
    for (int64_t begin = 0; begin < n; begin += GROUP) {
        int64_t end = begin + GROUP < n ? begin + GROUP : n;
        for (int64_t panel = 0; panel * PANEL < m; panel++) ALL_TILES(FETCHES, FINISH)
    }
#undef FETCHES
#undef FINISH
}

/* h_t and c_t of an LSTM for 16 units, given i, f, g, o and c_{t-1}. Quotients share their division: with a = 2^(-i'),
   b = 2^(-2g'), d = 2^(-f') (primes: times log2 e), sigmoid(i) tanh(g) is (1 - b) / ((1 + a)(1 + b)). Powers stay below
   2^40, so that products of three do not overflow; sigmoid(-27.7) is 9e-13. */
INLINE floats gate_memory(floats i, floats f, floats g, floats memory) {
    floats a = all(1.0f) + exp2_within(i * all(-LOG2_E), 40.0f);
    floats b = exp2_within(g * all(-2.0f * LOG2_E), 40.0f);
    floats d = all(1.0f) + exp2_within(f * all(-LOG2_E), 40.0f);
    floats both = a * (all(1.0f) + b);
    return (memory * both + (all(1.0f) - b) * d) / (both * d);
}

INLINE floats gate_hidden(floats o, floats memory) {
    floats a = all(1.0f) + exp2_within(o * all(-LOG2_E), 40.0f);
    floats b = exp2_within(memory * all(-2.0f * LOG2_E), 40.0f);
    return (all(1.0f) - b) / (a * (all(1.0f) + b));
}

/* One step of n rows of an LSTM with h units. Panel p holds the outputs i, f, g, o of units 16p to 16p + 16. `added` is
   what the step's inputs give, rows of blocks i, f, g, o; row r's is number `places[r]`, or r without places. `memory`
   becomes c_t, `hidden` h_t. */
static void lstm_step(const Product *p, int64_t n, int64_t h, const float *added, const int64_t *places, float *memory,
                      float *hidden) {
#define ADDED(row) (added + (places ? places[row] : row) * 4 * h)
#define FETCHES(rows, row, panel)                                                                       \
    for (int r = 0; r < rows; r++) {                                                                    \
        for (int gate = 0; gate < 4; gate++) FETCH(ADDED(row + r) + gate * h + panel * LANES);          \
        FETCH(memory + (row + r) * h + panel * LANES);                                                  \
    }
#define FINISH(rows, row, panel, out)                                                                   \
    {                                                                                                   \
        int64_t first = panel * LANES;                                                                  \
        __mmask16 mask = lanes(h - first);                                                              \
        for (int r = 0; r < rows; r++) {                                                                \
            const float *add = ADDED(row + r) + first;                                                  \
            float *cell = memory + (row + r) * h + first;                                               \
            floats c = gate_memory(out[r][0] + load(add, mask), out[r][1] + load(add + h, mask),        \
                                   out[r][2] + load(add + 2 * h, mask), load(cell, mask));              \
            store(cell, mask, c);                                                                       \
            store(hidden + (row + r) * h + first, mask, gate_hidden(out[r][3] + load(add + 3 * h, mask), c)); \
        }                                                                                               \
    }
    for (int64_t begin = 0; begin < n; begin += GROUP) {
        int64_t end = begin + GROUP < n ? begin + GROUP : n;
        for (int64_t panel = 0; panel * LANES < h; panel++) ALL_TILES(FETCHES, FINISH)
    }
#undef FETCHES
#undef FINISH
}

void quantise(const float *x, int64_t n, int64_t d, int64_t stride, float factor, int64_t width, uint8_t *q, float *scale);

/* All steps of rows of unequal length, the longest first: at step t the first alive[t] of them. `added` and `places`
   are those of all steps, one after another; `hidden` receives all outputs. `state` (h_{t-1}) and `memory` (c_{t-1}),
   of alive[0] rows, become those after each row's last step. `bytes` and `row_scale` are room for the inputs of one step
   in int8, or absent. */
void lstm_packed(const Product *weights, const int64_t *alive, int64_t steps, int64_t h, const float *added,
                 const int64_t *places, float *state, float *memory, float *hidden, uint8_t *bytes, float *row_scale) {
    Product p = *weights;
    const float *before = state;
    for (int64_t t = 0; t < steps; t++) {
        int64_t n = alive[t];
        if (t && alive[t - 1] > n) memcpy(state + n * h, before + n * h, (alive[t - 1] - n) * h * sizeof(float));
        if (p.bytes) {
            quantise(before, n, h, h, 1.0f, p.depth, bytes, row_scale);
            p.inputs = bytes, p.stride = p.depth, p.row_scale = row_scale;
        } else {
            p.inputs = before, p.stride = h;
        }
        lstm_step(&p, n, h, added, places, memory, hidden);
        before = hidden;
        hidden += n * h;
        if (places) places += n;
        else added += n * 4 * h;
    }
    if (steps) memcpy(state, before, alive[steps - 1] * h * sizeof(float));
}

/* Of n rows of logits in base 2, inputs x weights + bias (m; may be absent): log2 of the sum of their powers, and the
   target's logit. The largest so far and the sum below it are kept lane by lane, and joined at the end. */
void log_sum_exp_product(const Product *p, int64_t n, int64_t m, const float *bias, const int64_t *targets, float *log_sum,
                         float *found) {
#define FETCHES(rows, row, panel)
#define FINISH(rows, row, panel, out)                                                         \
    {                                                                                         \
        floats add[COLUMNS];                                                                  \
        __mmask16 mask[COLUMNS];                                                              \
        for (int c = 0; c < COLUMNS; c++) {                                                   \
            mask[c] = lanes(m - panel * PANEL - c * LANES);                                   \
            add[c] = bias ? load(bias + panel * PANEL + c * LANES, mask[c]) : all(0.0f);      \
        }                                                                                     \
        for (int r = 0; r < rows; r++) {                                                      \
            floats z[COLUMNS];                                                                \
            for (int c = 0; c < COLUMNS; c++)                                                 \
                z[c] = (floats)_mm512_mask_add_ps(_mm512_set1_ps(BELOW_ALL), mask[c], (__m512)out[r][c], (__m512)add[c]); \
            int64_t i = row + r - begin, target = targets[row + r] - panel * PANEL;           \
            if (target >= 0 && target < PANEL) {                                              \
                float values[PANEL];                                                          \
                for (int c = 0; c < COLUMNS; c++) store(values + c * LANES, 0xffff, z[c]);    \
                found[row + r] = values[target];                                              \
            }                                                                                 \
            floats most = larger(larger(z[0], z[1]), larger(z[2], z[3]));                     \
            if (_mm512_cmp_ps_mask((__m512)most, (__m512)top[i], _CMP_GT_OQ)) {               \
                most = larger(most, top[i]);                                                  \
                total[i] *= exp2_within(top[i] - most, 126.0f);                               \
                top[i] = most;                                                                \
            }                                                                                 \
            total[i] += (exp2_within(z[0] - top[i], 126.0f) + exp2_within(z[1] - top[i], 126.0f)) + \
                        (exp2_within(z[2] - top[i], 126.0f) + exp2_within(z[3] - top[i], 126.0f));  \
        }                                                                                     \
    }
    floats top[GROUP], total[GROUP];
    for (int64_t begin = 0; begin < n; begin += GROUP) {
        int64_t end = begin + GROUP < n ? begin + GROUP : n;
        for (int64_t i = 0; i < end - begin; i++) top[i] = all(BELOW_ALL), total[i] = all(0.0f);
        for (int64_t panel = 0; panel * PANEL < m; panel++) ALL_TILES(FETCHES, FINISH)
        for (int64_t i = 0; i < end - begin; i++) {
            float most = _mm512_reduce_max_ps((__m512)top[i]);
            float sum = _mm512_reduce_add_ps((__m512)(total[i] * exp2_within(top[i] - all(most), 126.0f)));
            log_sum[begin + i] = most + __builtin_log2f(sum);
        }
    }
#undef FETCHES
#undef FINISH
}

/* Which products there are: 0 none, 1 in float32, 2 in int8 too. */
int64_t products(void) {
#if defined(__AVX512VNNI__)
    return 2;
#else
    return 1;
#endif
}
#else
int64_t products(void) { return 0; }
#endif
