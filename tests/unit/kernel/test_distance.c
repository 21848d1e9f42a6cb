/* SPDX-License-Identifier: Apache-2.0 */
/* Every table against the order of summation that kernel.h writes down, spelled out here a second time. */
#include "kernel/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/kernel/guarded.h"

/* ---- the specification ---- */

static float tree_f32(const float *s)
{
    float t[8], u[4], v[2];
    for (int j = 0; j < 8; j++)
        t[j] = s[j] + s[j + 8];
    for (int j = 0; j < 4; j++)
        u[j] = t[j] + t[j + 4];
    for (int j = 0; j < 2; j++)
        v[j] = u[j] + u[j + 2];
    return v[0] + v[1];
}

static float tree_f64(const double *s)
{
    double t[8], u[4], v[2];
    for (int j = 0; j < 8; j++)
        t[j] = s[j] + s[j + 8];
    for (int j = 0; j < 4; j++)
        u[j] = t[j] + t[j + 4];
    for (int j = 0; j < 2; j++)
        v[j] = u[j] + u[j + 2];
    return (float)(v[0] + v[1]);
}

static float expect(bool l2, const float *a, const float *b, size_t dim)
{
    if (dim > KERNEL_F32_DIM_MAX) {
        double s[16] = {0};
        for (size_t i = 0; i < dim; i++) {
            double gap = (double)a[i] - (double)b[i];
            s[i % 16] = l2 ? fma(gap, gap, s[i % 16]) : fma((double)a[i], (double)b[i], s[i % 16]);
        }
        return tree_f64(s);
    }
    float s[16] = {0};
    for (size_t i = 0; i < dim; i++) {
        float gap = a[i] - b[i];
        s[i % 16] = l2 ? fmaf(gap, gap, s[i % 16]) : fmaf(a[i], b[i], s[i % 16]);
    }
    return tree_f32(s);
}

static void same(float got, float want, const char *table, const char *what, size_t dim)
{
    if (isnan(got) && isnan(want))
        return;
    uint32_t a, b;
    memcpy(&a, &got, 4);
    memcpy(&b, &want, 4);
    if (a != b)
        fail_msg("%s %s dim %zu: %a, not %a", table, what, dim, (double)got, (double)want);
}

/* ---- what goes in ---- */

enum content { ORDINARY, SIGNED_ZEROS, DENORMALS, HUGE_ONES, SPECIALS, ANY_BITS, CONTENTS };

static float component(enum content content, uint64_t *random)
{
    uint64_t bits = next_random(random);
    float ordinary = (float)((double)(bits >> 11) * 0x1p-52 - 1.0);
    switch (content) {
    case SIGNED_ZEROS:
        return bits & 1 ? 0.0f : -0.0f;
    case DENORMALS:
        return ordinary * 0x1p-130f * (bits & 1 ? 1.0f : 0x1p60f);
    case HUGE_ONES:
        return ordinary * 0x1p+66f;
    case SPECIALS:
        return bits % 29 == 0   ? INFINITY
               : bits % 31 == 0 ? -INFINITY
               : bits % 67 == 0 ? NAN
                                : ordinary;
    case ANY_BITS: {
        float any;
        uint32_t low = (uint32_t)bits;
        memcpy(&any, &low, 4);
        return isnan(any) ? 1.0f : any;
    }
    default:
        return ordinary;
    }
}

static void fill(float *at, size_t count, enum content content, uint64_t *random)
{
    for (size_t i = 0; i < count; i++)
        at[i] = component(content, random);
}

static const size_t long_dims[] = {384, 768, 1536, 4095, 4096, 4097, 4098, 4099, 4100, 4111, 4112};

static size_t dim_of(size_t i)
{
    return i < 130 ? i + 1 : long_dims[i - 130];
}
#define DIMS (130 + COUNT_OF(long_dims))

/* ---- tests ---- */

static void pairs_are_bit_equal_in_every_table(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    struct guarded left = guarded_new(5000 * 4), right = guarded_new(5000 * 4);
    uint64_t random = 1;
    for (size_t i = 0; i < DIMS; i++) {
        size_t dim = dim_of(i);
        for (enum content content = ORDINARY; content < CONTENTS; content++) {
            /* The end lies at the forbidden page: no byte past dim is read, and alignments go through all values. */
            float *a = (float *)(void *)left.end - dim, *b = (float *)(void *)right.end - dim;
            fill(a, dim, content, &random);
            fill(b, dim, content, &random);
            float l2 = expect(true, a, b, dim), dot = expect(false, a, b, dim);
            for (size_t t = 0; t < count; t++) {
                same(tables[t]->l2_f32(a, b, dim), l2, tables[t]->name, "l2", dim);
                same(tables[t]->dot_f32(a, b, dim), dot, tables[t]->name, "dot", dim);
            }
            /* And from the first byte on. */
            memmove(left.start, a, dim * 4);
            const float *low = (const float *)(const void *)left.start;
            for (size_t t = 0; t < count; t++)
                same(tables[t]->l2_f32(low, b, dim), l2, tables[t]->name, "l2 low", dim);
        }
    }
    guarded_free(&left);
    guarded_free(&right);
}

static void rows_are_bit_equal_to_pairs(void **state)
{
    (void)state;
    enum { ROWS = 19 };
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    struct guarded memory = guarded_new((size_t)ROWS * 4120 * 4);
    float query[4120], l2[ROWS], dot[ROWS], both[ROWS], norm2[ROWS];
    uint64_t random = 2;
    for (size_t i = 0; i < DIMS; i++) {
        size_t dim = dim_of(i), rows = 1 + i % ROWS, stride = dim + i % 3;
        for (enum content content = ORDINARY; content < CONTENTS; content++) {
            float *at = (float *)(void *)memory.end - ((rows - 1) * stride + dim);
            fill(at, (rows - 1) * stride + dim, content, &random);
            fill(query, dim, content, &random);
            for (size_t t = 0; t < count; t++) {
                const struct kernel *table = tables[t];
                table->l2_rows_f32(query, at, stride, dim, rows, l2);
                table->dot_rows_f32(query, at, stride, dim, rows, dot);
                table->dot_norm_rows_f32(query, at, stride, dim, rows, both, norm2);
                for (size_t row = 0; row < rows; row++) {
                    const float *own = at + row * stride;
                    same(l2[row], expect(true, query, own, dim), table->name, "l2 rows", dim);
                    same(dot[row], expect(false, query, own, dim), table->name, "dot rows", dim);
                    same(both[row], dot[row], table->name, "dot of dot_norm", dim);
                    same(norm2[row], expect(false, own, own, dim), table->name, "norm", dim);
                }
            }
        }
    }
    guarded_free(&memory);
}

/* Products so small that each stride underflows to -0: a tail that adds zeros to the lanes past it would lose them. */
static void a_tail_keeps_negative_zeros(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    float a[64], b[64], dot, norm2;
    for (size_t i = 0; i < 64; i++) {
        a[i] = 0x1p-100f;
        b[i] = -0x1p-100f;
    }
    for (size_t dim = 1; dim < 64; dim++)
        for (size_t t = 0; t < count; t++) {
            float want = dim < 16 ? 0.0f : -0.0f;
            same(expect(false, a, b, dim), want, "the specification", "dot", dim);
            same(tables[t]->dot_f32(a, b, dim), want, tables[t]->name, "dot", dim);
            tables[t]->dot_norm_rows_f32(a, b, dim, dim, 1, &dot, &norm2);
            same(dot, want, tables[t]->name, "dot of dot_norm", dim);
        }
}

static void no_components_and_no_rows_are_fine(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    float one[16] = {1}, out[9];
    for (size_t t = 0; t < count; t++) {
        same(tables[t]->l2_f32(one, one, 0), 0.0f, tables[t]->name, "l2", 0);
        same(tables[t]->dot_f32(one, one, 0), 0.0f, tables[t]->name, "dot", 0);
        tables[t]->l2_rows_f32(one, one, 16, 16, 0, out);
        tables[t]->dot_rows_f32(one, one, 0, 0, 9, out);
        same(out[8], 0.0f, tables[t]->name, "dot rows", 0);
    }
}

static void wide_vectors_do_not_overflow_inside(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    enum { DIM = 4112 };
    static float a[DIM], b[DIM];
    a[0] = b[0] = 0x1p100f; /* its square fits f64 only, and cancels */
    a[16] = 0x1p100f;
    b[16] = -0x1p100f;
    a[2] = b[2] = 3.0f;
    for (size_t t = 0; t < count; t++)
        same(tables[t]->dot_f32(a, b, DIM), 9.0f, tables[t]->name, "dot", DIM);
}

static void cosine_is_clamped_and_knows_zero_vectors(void **state)
{
    (void)state;
    assert_true(kernel_cosine_distance(4.0f, 4.0f, 4.0f) == 0.0f);
    assert_true(kernel_cosine_distance(4.0000005f, 4.0f, 4.0f) == 0.0f);
    assert_false(signbit(kernel_cosine_distance(4.0000005f, 4.0f, 4.0f)));
    assert_true(kernel_cosine_distance(-4.0f, 4.0f, 4.0f) == 2.0f);
    assert_true(kernel_cosine_distance(0.0f, 0.0f, 4.0f) == 1.0f);
    assert_true(kernel_cosine_distance(0.0f, 4.0f, 0.0f) == 1.0f);
    assert_true(kernel_cosine_distance(0.0f, 0.0f, INFINITY) == 1.0f);
    assert_true(isnan(kernel_cosine_distance(INFINITY, INFINITY, 1.0f)));
    assert_true(isnan(kernel_cosine_distance(1.0f, INFINITY, 1.0f)));
    assert_true(isnan(kernel_cosine_distance(NAN, 1.0f, 1.0f)));
    /* Norms whose product leaves f32 on either side. */
    assert_true(kernel_cosine_distance(0x1p120f, 0x1p120f, 0x1p120f) == 0.0f);
    assert_true(kernel_cosine_distance(0x1p-140f, 0x1p-140f, 0x1p-140f) == 0.0f);
    assert_true(kernel_ip_distance(0.25f) == 0.75f);
}

static void the_first_table_is_scalar_and_the_choice_is_one_of_them(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    assert_string_equal(tables[0]->name, "scalar");
    const char *wish = getenv("OCHRE_KERNEL");
    bool listed = false;
    for (size_t t = 0; t < count; t++)
        listed = listed || tables[t] == kernel_get();
    assert_true(listed);
    if (!wish)
        assert_ptr_equal(kernel_get(), tables[count - 1]);
    else if (strcmp(wish, "scalar") == 0)
        assert_ptr_equal(kernel_get(), tables[0]);
    print_message("kernels: %zu, chosen %s\n", count, kernel_get()->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_bit_equal_in_every_table),
        cmocka_unit_test(rows_are_bit_equal_to_pairs),
        cmocka_unit_test(a_tail_keeps_negative_zeros),
        cmocka_unit_test(no_components_and_no_rows_are_fine),
        cmocka_unit_test(wide_vectors_do_not_overflow_inside),
        cmocka_unit_test(cosine_is_clamped_and_knows_zero_vectors),
        cmocka_unit_test(the_first_table_is_scalar_and_the_choice_is_one_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
