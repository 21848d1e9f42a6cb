/* SPDX-License-Identifier: Apache-2.0 */
/* Making codes, written once over sixteen lanes.  code_make_<set>.c first defines NAME(loop) and includes
 * code_v16_<set>.h.  Lane i mod 16 of a sum is stride i mod 16, so the order is that of the scalar file. */
#ifndef KERNEL_CODE_MAKE_LOOPS_H
#define KERNEL_CODE_MAKE_LOOPS_H

static ALWAYS_INLINE float largest(const float *x, size_t dim)
{
    v16 even = v16_set1(0.0f), odd = even;
    for (size_t i = 0; i < dim; i += 32) {
        even = v16_max(even, v16_abs(v16_load(x + i)));
        odd = v16_max(odd, v16_abs(v16_load(x + i + 16)));
    }
    return v16_largest(v16_max(even, odd));
}

void NAME(quant8)(const float *y, size_t dim, uint8_t *row)
{
    float most = largest(y, dim);
    v16 by = v16_set1(most < CODE_TINY ? 0.0f : 127.0f / most);
    w16 offset = w16_round(v16_set1(-128.0f));
    double norm2_total = 0.0, dot_total = 0.0;
    for (size_t from = 0; from < dim; from += CODE_SUM_STEP) {
        size_t to = min_size(dim, from + CODE_SUM_STEP);
        v16 norm2 = v16_set1(0.0f), dot = norm2;
        for (size_t i = from; i < to; i += 16) {
            v16 own = v16_load(y + i);
            w16 value = w16_round(v16_mul(own, by));
            w16_store_bytes(row + i, w16_add(value, offset)); /* +128 and -128 are one byte */
            norm2 = v16_fma(own, own, norm2);
            dot = v16_fma(w16_float(value), own, dot);
        }
        norm2_total += (double)v16_sum(norm2);
        dot_total += (double)v16_sum(dot);
    }
    float all = (float)norm2_total, own = (float)dot_total;
    float scale = own > 0.0f ? all / own : 0.0f;
    memcpy(row + dim, &scale, sizeof scale);
    memcpy(row + dim + 4, &all, sizeof all);
}

void NAME(decode8)(const uint8_t *row, const float *centroid, size_t dim, float *y)
{
    v16 scale = v16_set1(code_row_scale(row, dim));
    for (size_t i = 0; i < dim; i += 16) {
        v16 value = v16_mul(scale, v16_load_code(row + i));
        v16_store(y + i, centroid ? v16_sub(value, v16_load(centroid + i)) : value);
    }
}

void NAME(quant8_query)(const float *q, size_t dim, int8_t *q8, struct code_query8 *ret)
{
    float most = largest(q, dim);
    bool tiny = most < CODE_TINY;
    v16 by = v16_set1(tiny ? 0.0f : 127.0f / most);
    w16 sum = w16_zero();
    double total = 0.0;
    for (size_t from = 0; from < dim; from += CODE_SUM_STEP) {
        size_t to = min_size(dim, from + CODE_SUM_STEP);
        v16 norm2 = v16_set1(0.0f);
        for (size_t i = from; i < to; i += 16) {
            v16 own = v16_load(q + i);
            w16 value = w16_round(v16_mul(own, by));
            w16_store_bytes(q8 + i, value);
            sum = w16_add(sum, value);
            norm2 = v16_fma(own, own, norm2);
        }
        total += (double)v16_sum(norm2);
    }
    *ret = (struct code_query8){q8, w16_sum(sum), tiny ? 0.0f : most / 127.0f, (float)total};
}

/* Of sixteen groups, a lane each: low[i] = bit0 q0 + bit1 q1, high[i] = bit2 q2 + bit3 q3, and smallest and largest sum.
 * Rounding keeps order, so the smallest sum is that of the smallest parts. */
struct group_sums {
    v16 low[4], high[4], least, most;
};

static ALWAYS_INLINE struct group_sums group_sums(const float *q)
{
    v16 column[4], zero = v16_set1(0.0f);
    v16_load_groups(q, column);
    struct group_sums sums = {
        .low = {zero, column[0], column[1], v16_add(column[0], column[1])},
        .high = {zero, column[2], column[3], v16_add(column[2], column[3])},
    };
    v16 low_least = v16_min(v16_min(zero, sums.low[1]), v16_min(sums.low[2], sums.low[3]));
    v16 low_most = v16_max(v16_max(zero, sums.low[1]), v16_max(sums.low[2], sums.low[3]));
    v16 high_least = v16_min(v16_min(zero, sums.high[1]), v16_min(sums.high[2], sums.high[3]));
    v16 high_most = v16_max(v16_max(zero, sums.high[1]), v16_max(sums.high[2], sums.high[3]));
    sums.least = v16_add(low_least, high_least);
    sums.most = v16_add(low_most, high_most);
    return sums;
}

struct code_table NAME(table_u8)(const float *q, size_t dim, uint8_t *table)
{
    v16 wide = v16_set1(0.0f), sum = wide;
    for (size_t i = 0; i < dim; i += 64) {
        struct group_sums sums = group_sums(q + i);
        v16 range = v16_sub(sums.most, sums.least);
        wide = v16_max(wide, range);
        sum = v16_add(sum, range);
    }
    float widest = v16_largest(wide);
    bool tiny = widest < CODE_TINY;
    v16 by = v16_set1(tiny ? 0.0f : 255.0f / widest);
    for (size_t i = 0; i < dim; i += 64) {
        struct group_sums sums = group_sums(q + i);
        w16 words[4];
        for (int high = 0; high < 4; high++) {
            w16 bytes[4];
            for (int low = 0; low < 4; low++) {
                v16 value = v16_sub(v16_add(sums.low[low], sums.high[high]), sums.least);
                bytes[low] = w16_round(v16_mul(value, by));
            }
            words[high] = w16_join(bytes[0], bytes[1], bytes[2], bytes[3]);
        }
        w16_store_groups(table + 4 * i, words);
    }
    return (struct code_table){tiny ? 0.0f : 2.0f * (widest / 255.0f), -v16_sum(sum)};
}

/* Four nibbles, each in the low half of a byte. */
static ALWAYS_INLINE uint32_t spread(uint32_t bits)
{
    bits = (bits | bits << 8) & 0x00ff00ff;
    return (bits | bits << 4) & 0x0f0f0f0f;
}

void NAME(sign_encode)(const float *y, const float *centroid, size_t dim, uint8_t *block, size_t v,
                       struct code_sums *ret)
{
    debug_assert(v < CODE_BLOCK_ROWS);
    uint8_t *word = block + 4 * (v % 16);
    unsigned half = v < 16 ? 0 : 4;
    double norm2_total = 0.0, norm1_total = 0.0, dot_total = 0.0;
    for (size_t from = 0; from < dim; from += CODE_SUM_STEP) {
        size_t to = min_size(dim, from + CODE_SUM_STEP);
        v16 norm2 = v16_set1(0.0f), norm1 = norm2, dot = norm2;
        for (size_t i = from; i < to; i += 16, word += 64) {
            v16 own = v16_load(centroid + i), r = v16_sub(v16_load(y + i), own);
            uint32_t bits = v16_not_negative(r), four;
            memcpy(&four, word, sizeof four);
            four |= spread(bits) << half;
            memcpy(word, &four, sizeof four);
            norm2 = v16_fma(r, r, norm2);
            norm1 = v16_add(norm1, v16_abs(r));
            dot = v16_add(dot, v16_negate(own, ~bits));
        }
        norm2_total += (double)v16_sum(norm2);
        norm1_total += (double)v16_sum(norm1);
        dot_total += (double)v16_sum(dot);
    }
    *ret = (struct code_sums){(float)norm2_total, (float)norm1_total, (float)dot_total};
}
#endif
