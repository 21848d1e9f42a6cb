/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a text as numbers, and what they are worth: BM25 over documents (`$bm25` of a rank expression).
 *
 * A *term* is a longest run of letters, marks and digits, folded to lower case by code point, as a 32-bit hash (FNV-1a of its UTF-8 bytes in 64 bits, halves
 * joined by exclusive or).  Scripts written without spaces, or whose words change by endings (Han, kana, Hangul, Thai, Lao, Khmer, Myanmar), give every two
 * neighbours as a term, and one that stands alone by itself.  No stems, no stop words, no normal forms: "é" as one code point is not "é" as two.
 * terms_unicode.h has the tables.  Stored indexes hold terms: another rule or table is another TERMS_VERSION. */
#ifndef MODEL_TERMS_H
#define MODEL_TERMS_H

#include "base/slice.h"

#define TERMS_VERSION 1u
#define TERMS_K1      1.2  /* how soon more of a word stops to matter */
#define TERMS_B       0.75 /* how much long documents are held back */
#define TERMS_COUNT_MAX \
    0xffffffu /* of one term in one document: more count as so many; as f32 it is exact */
#define TERMS_NONE UINT32_MAX /* as a length: the row has no document */

/** A walk over the terms of a text, in its order and with repetitions.  Any bytes: what is not UTF-8 separates. */
struct terms {
    const uint8_t *at, *end;
    bool paired; /* the character at `at` is half of the pair returned last */
    /* which code points the last look into the tables holds for */
    uint32_t kind_first, kind_last, kind;
    uint32_t fold_first, fold_last;
    const struct term_fold_range *fold;
};
static inline struct terms terms_of(slice text)
{
    return (struct terms){.at = text.at,
                          .end = text.at + text.len,
                          .kind_first = UINT32_MAX,
                          .fold_first = UINT32_MAX};
}
/** The next term; false: no more.  Cost: about 2 ns a byte. */
bool terms_next(struct terms *terms, uint32_t *ret_term);

/** How the length of a document counts, by the average of all. */
struct terms_norm {
    float base, per_term;
};
struct terms_norm terms_norm_of(uint64_t documents, uint64_t terms);
/**
 * What a term that stands `count` times in a document of `length` terms is worth there, before idf: f32 operations in a fixed order, so that it is one number
 * wherever the row lies.  Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), 3.
 */
static inline float terms_weight(struct terms_norm norm, float count, uint32_t length)
{
    return count * (float)(TERMS_K1 + 1) / (count + (norm.base + norm.per_term * (float)length));
}
/** How rare a term is that `holders` of `all` documents hold. */
float terms_idf(uint64_t all, uint64_t holders);
#endif
