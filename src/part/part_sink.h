/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a part's sections one behind the other, with their page checksums.  Inside part/ only. */
#ifndef PART_PART_SINK_H
#define PART_PART_SINK_H

#include "part/part.h"
#include "part/part_format.h"

/** Memory counted in a budget. */
struct charged {
    void *at;
    size_t bytes;
};
/** Zeroed.  Errors: OCH_BUSY, OCH_NO_MEMORY. */
MUST_USE och_code charged_alloc(struct budget *budget, uint64_t count, size_t size,
                                const char *what, struct charged *ret, och_error *err);
void charged_free(struct budget *budget, struct charged *memory);

struct part_sink {
    struct store_writer *writer;
    struct budget *budget;
    uuid id;
    uint64_t begin; /* of the part in the object */
    struct part_section sections[SECTION_COUNT];
    uint8_t order[SECTION_COUNT]; /* ids as written */
    size_t section_count;
    struct charged crcs; /* u32 each */
    uint64_t crc_count;
    /* the section being written */
    unsigned open;
    uint32_t crc;     /* of its last page so far */
    uint32_t in_page; /* bytes of it; 0: none begun */
};

/** Align the writer and note where the part begins. */
MUST_USE och_code part_sink_init(struct part_sink *sink, struct store_writer *writer,
                                 struct budget *budget, och_error *err);
void part_sink_done(struct part_sink *sink);
/** Bytes that belong to no section: header, padding. */
MUST_USE och_code part_sink_raw(struct part_sink *sink, const void *at, size_t len, och_error *err);
MUST_USE och_code part_sink_align(struct part_sink *sink, uint64_t align, och_error *err);
static inline uint64_t part_sink_offset(const struct part_sink *sink)
{
    return sink->writer->written - sink->begin;
}
/** `size` is a hint for alignment: what the section will hold, or 0. */
MUST_USE och_code part_sink_begin(struct part_sink *sink, enum part_section_id id, uint64_t size,
                                  och_error *err);
MUST_USE och_code part_sink_append(struct part_sink *sink, const void *at, size_t len,
                                   och_error *err);
MUST_USE och_code part_sink_end(struct part_sink *sink, uint64_t aux, och_error *err);
/** A whole section at once. */
MUST_USE och_code part_sink_section(struct part_sink *sink, enum part_section_id id, const void *at,
                                    size_t len, och_error *err);
struct part_totals {
    uint64_t raw_bytes;
    uint32_t vector_count, kill_count;
};
/** Checksum table, directory, footer.  Fills all of ret_ref but the object. */
MUST_USE och_code part_sink_close(struct part_sink *sink, const struct part_totals *totals,
                                  uint32_t head_len, struct part_ref *ret_ref, och_error *err);

/** Records in blocks (docs/formats/part.md, "Runs and blocks"); the section begins with the first row that has the field. */
struct part_block_writer {
    struct part_sink *sink;
    enum part_section_id section;
    uint32_t run_bytes; /* decoded, about */
    uint32_t rows, leading;
    bool begun;
    struct buf lengths, bytes;   /* the block being filled */
    struct buf run, index, work; /* encoded blocks of the run; entries of past runs; scratch */
    uint32_t block_rows, run_row, run_blocks, run_decoded;
    uint64_t runs;
    struct ZSTD_CCtx_s *zstd; /* of sections that no filter reads */
    struct charged lz4;
    size_t charged_bytes;
};
void part_block_writer_init(struct part_block_writer *writer, struct part_sink *sink,
                            enum part_section_id section);
void part_block_writer_done(struct part_block_writer *writer);
/** The next row's field; at == NULL: it has none. */
MUST_USE och_code part_block_writer_add(struct part_block_writer *writer, slice field,
                                        och_error *err);
MUST_USE och_code part_block_writer_finish(struct part_block_writer *writer, och_error *err);

/** What the vector index of a new part is made of (part_vectors.c).  Zeroed before the first call; lives as long as the build it gave. */
struct part_vectors {
    const struct part_spec *spec;
    const struct part_source *source;
    struct budget *budget;
    const struct vector_index **indexes; /* of the inputs */
};
/** *ret_build NULL: too few vectors for an index. */
MUST_USE och_code part_vectors_build(struct part_vectors *vectors, const struct part_spec *spec,
                                     const struct part_source *source,
                                     const struct part_build_options *options,
                                     struct vector_build **ret_build, och_error *err);
uuid part_vectors_lineage(const struct part_vectors *vectors, const struct vector_built *built);
void part_vectors_done(struct part_vectors *vectors);

/** Section TEXT over the documents of all rows, unless there is too little text or the schema has no full-text index. */
struct text_rows;
MUST_USE och_code part_text_write(struct part_sink *sink, slice schema_json,
                                  const struct text_rows *rows, uint64_t text_bytes,
                                  const struct limits_of_work *limits, och_error *err);

/** Section SPRS over the metadata of all rows, if the schema has keys with a sparse index. */
struct sparse_rows;
MUST_USE och_code part_sparse_write(struct part_sink *sink, slice schema_json,
                                    const struct sparse_rows *rows,
                                    const struct limits_of_work *limits, och_error *err);

/** Section TERM over the documents of all rows, under the same conditions as TEXT. */
MUST_USE och_code part_terms_write(struct part_sink *sink, slice schema_json,
                                   const struct sparse_rows *rows, uint64_t text_bytes,
                                   const struct limits_of_work *limits, och_error *err);
/** Has this schema a full-text index? */
bool part_text_wanted(slice schema_json);

/** META: rows' metadata is handed to the build beside VALUES, then the section is written.  *ret_build NULL: none is wanted. */
struct meta_build;
MUST_USE och_code part_meta_begin(const struct part_sink *sink, uint32_t rows,
                                  const struct limits_of_work *limits,
                                  struct meta_build **ret_build, och_error *err);
/** `row` is asked again for what did not fit into memory at once. */
typedef och_code (*part_meta_row)(void *context, uint32_t row, slice *ret_metadata, och_error *err);
MUST_USE och_code part_meta_end(struct part_sink *sink, struct meta_build *build, uint32_t rows,
                                part_meta_row row, void *context, och_error *err);

/** part_build with rows in another order than the source's; order: row -> source index, NULL = the same. */
MUST_USE och_code part_build_ordered(const struct part_spec *spec, const struct part_source *source,
                                     const struct part_build_options *options,
                                     const uint32_t *order, struct store_writer *writer,
                                     uint32_t *ret_rows, struct part_info *ret_info,
                                     och_error *err);

/** Fill an IDHASH section from the hashes in row order; `at` has part_idhash_size(rows) bytes, zeroed. */
void part_idhash_fill(uint8_t *at, const uint64_t *hashes, uint32_t rows);
#endif
