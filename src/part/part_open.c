/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a part: directory, header and HEAD are read and every figure in them is checked against the others, so that the rest can
 * compute places without looking again. */
#include "part/part_internal.h"

#include "kernel/kernel.h"

#include <inttypes.h>

/* A whole-part fault: no section to blame. */
static och_code bad(const struct part_ref *ref, uint64_t offset, const char *what, och_error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid object;
    memcpy(object.bytes, ref->object.bytes, sizeof(object.bytes));
    return FAIL(err, OCH_CORRUPT, "part %s, section %s, offset %" PRIu64 ": %s",
                uuid_format(object, text), offset ? "directory" : "header", ref->offset + offset,
                what);
}

static och_code read_at(const struct part *part, uint64_t offset, void *at, size_t len,
                        och_error *err)
{
    const struct part_ref *ref = &part->info.ref;
    och_code code = store_read(part->env.store, ref->object, ref->offset + offset, at, len, err);
    return code == OCH_CORRUPT ? bad(ref, offset, "the file ends before it", err) : code;
}

static och_code check_version(const struct part_ref *ref, uint64_t offset, uint16_t major,
                              och_error *err)
{
    if (major == PART_MAJOR)
        return OCH_OK;
    if (major < PART_MAJOR)
        return bad(ref, offset, "unknown version", err);
    return FAIL(err, OCH_UNSUPPORTED,
                "the part has format %u, this program reads up to %u: use a newer one", major,
                PART_MAJOR);
}

/* ---- directory ---- */

/* Sizes that the format fixes; derived sections that are wrong are left out, primary ones refuse the part. */
static bool size_fits(const struct part *part, unsigned id, const struct part_section *section)
{
    uint64_t rows = part->info.rows, vector = (uint64_t)part->info.dimension * 4;
    switch (id) {
    case SECTION_IDFILTER:
        return section->size == part_filter_size(rows);
    case SECTION_IDHASH:
        return section->size == part_idhash_size(rows);
    case SECTION_SEQROWS:
    case SECTION_NORM:
        return section->size == rows * 4;
    case SECTION_SEQ:
        return section->aux <= 64 &&
               section->size == (rows + SEQ_ROWS - 1) / SEQ_ROWS * part_seq_stride(section->aux);
    case SECTION_VEC:
        return vector && section->size == rows * vector;
    case SECTION_VPRES:
        return section->size == bitset_words(rows) * 8;
    case SECTION_EXPIRY:
        return section->size == rows * 8;
    case SECTION_IDS:
    case SECTION_VALUES:
    case SECTION_DOCS:
    case SECTION_URIS:
        return section->aux && section->aux <= rows &&
               section->aux <= section->size / (RUN_ENTRY + BLOCK_HEADER + 4);
    default:
        return true;
    }
}

static och_code read_entry(struct part *part, struct reader *reader, och_error *err)
{
    const struct part_ref *ref = &part->info.ref;
    uint32_t id = reader_u32(reader);
    struct part_section section;
    section.page_size = reader_u32(reader);
    section.offset = reader_u64(reader);
    section.size = reader_u64(reader);
    section.aux = reader_u64(reader);
    section.first_page = reader_u32(reader);
    uint32_t sub = reader_u32(reader);
    if (reader->failed)
        return bad(ref, ref->dir_offset, "it ends too early", err);
    if (id >= SECTION_COUNT || sub)
        return OCH_OK; // of a newer minor version
    if (id == SECTION_NONE || section.page_size < PAGE_SMALL || section.page_size > PAGE_LARGE ||
        (section.page_size & (section.page_size - 1)) || section.offset > ref->dir_offset ||
        section.size > ref->dir_offset - section.offset ||
        part_section_pages(&section) + section.first_page > part->table_count)
        return bad(ref, ref->dir_offset, "a section lies outside the part", err);
    if (part->sections[id].page_size)
        return bad(ref, ref->dir_offset, "a section is there twice", err);
    part->sections[id] = section;
    return OCH_OK;
}

static och_code parse_directory(struct part *part, slice bytes, och_error *err)
{
    const struct part_ref *ref = &part->info.ref;
    struct reader reader = reader_of(bytes);
    uint32_t magic = reader_u32(&reader);
    uint16_t major = reader_u16(&reader);
    (void)reader_u16(&reader); // minor
    if (reader.failed || magic != DIRECTORY_MAGIC)
        return bad(ref, ref->dir_offset, "not a directory", err);
    TRY(check_version(ref, ref->dir_offset, major, err));
    uint32_t entries = reader_u32(&reader), table_pages = reader_u32(&reader);
    slice id = reader_bytes(&reader, 16);
    part->table_offset = reader_u64(&reader);
    part->table_count = reader_u64(&reader);
    part->info.raw_bytes = reader_u64(&reader);
    part->vector_count = reader_u32(&reader);
    part->kill_count = reader_u32(&reader);
    if (reader.failed || entries > ENTRIES_MAX)
        return bad(ref, ref->dir_offset, "it ends too early", err);
    assert(id.len == 16 && id.at != NULL);
    memcpy(part->id.bytes, id.at, 16);
    if (part->table_offset > ref->dir_offset ||
        part->table_count > (ref->dir_offset - part->table_offset) / 4 ||
        table_pages != (part->table_count * 4 + TABLE_PAGE - 1) / TABLE_PAGE)
        return bad(ref, ref->dir_offset, "the checksum table lies outside the part", err);
    for (uint32_t i = 0; i < entries; i++)
        TRY(read_entry(part, &reader, err));
    if (reader_left(&reader) != (size_t)table_pages * 4)
        return bad(ref, ref->dir_offset, "its length is wrong", err);
    part->table_crcs = mem_alloc((size_t)table_pages * 4);
    if (!part->table_crcs)
        return FAIL_NO_MEMORY(err, "a part's directory");
    for (uint32_t i = 0; i < table_pages; i++)
        part->table_crcs[i] = reader_u32(&reader);
    return OCH_OK;
}

static och_code read_directory(struct part *part, och_error *err)
{
    const struct part_ref *ref = &part->info.ref;
    if (ref->size < HEADER_SIZE + FOOTER_SIZE || ref->dir_offset < HEADER_SIZE ||
        ref->dir_offset > ref->size - FOOTER_SIZE ||
        ref->dir_len > ref->size - FOOTER_SIZE - ref->dir_offset || ref->dir_len < DIRECTORY_SIZE ||
        ref->offset > INT64_MAX - ref->size || ref->size > INT64_MAX)
        return bad(ref, ref->dir_offset, "the catalogue's figures do not fit together", err);
    CLEANUP(mem_cleanup) uint8_t *bytes = mem_alloc(ref->dir_len);
    if (!bytes)
        return FAIL_NO_MEMORY(err, "a part's directory");
    TRY(read_at(part, ref->dir_offset, bytes, ref->dir_len, err));
    if (kernel_get()->crc32c(0, bytes, ref->dir_len) != ref->dir_crc)
        return bad(ref, ref->dir_offset, "checksum mismatch", err);
    return parse_directory(part, slice_make(bytes, ref->dir_len), err);
}

/* ---- header and HEAD ---- */

static och_code read_header(struct part *part, och_error *err)
{
    const struct part_ref *ref = &part->info.ref;
    uint8_t header[HEADER_SIZE];
    TRY(read_at(part, 0, header, sizeof(header), err));
    if (memcmp(header, HEADER_MAGIC, 8) != 0)
        return bad(ref, 0, "not a part", err);
    if (kernel_get()->crc32c(0, header, 60) != load_u32(header + 60))
        return bad(ref, 0, "checksum mismatch", err);
    TRY(check_version(ref, 0, load_u16(header + 8), err));
    if (memcmp(header + 16, part->id.bytes, 16) != 0)
        return bad(ref, 0, "header and directory are of different parts", err);
    return OCH_OK;
}

static och_code read_head(struct part *part, och_error *err)
{
    const struct part_section *section = &part->sections[SECTION_HEAD];
    uint8_t head[HEAD_SIZE];
    if (section->size < HEAD_SIZE)
        return part_corrupt(part, SECTION_HEAD, 0, "it is too short", err);
    TRY(part_load_range(part, SECTION_HEAD, 0, head, sizeof(head), err));
    uint32_t metric = load_u32(head + 48);
    if (load_u32(head) != HEAD_MAGIC || metric > METRIC_IP || load_u32(head + 40) == PART_NO_ROW)
        return part_corrupt(part, SECTION_HEAD, 0, "not a head", err);
    struct part_info *info = &part->info;
    part->flags = load_u32(head + 4);
    memcpy(info->collection.bytes, head + 8, 16);
    memcpy(info->lineage.bytes, head + 24, 16);
    info->rows = load_u32(head + 40);
    info->dimension = load_u32(head + 44);
    info->metric = (enum metric)metric;
    part->has_expiry = load_u32(head + 52) != 0;
    info->log_from = load_u64(head + 56);
    info->log_to = load_u64(head + 64);
    if (info->log_from > info->log_to || info->dimension > UINT32_MAX / 4)
        return part_corrupt(part, SECTION_HEAD, 0, "figures out of range", err);
    return OCH_OK;
}

/* ---- what must be there ---- */

static och_code check_sections(struct part *part, och_error *err)
{
    uint32_t needed = part->info.rows ? PART_BIT(SECTION_IDS) | PART_BIT(SECTION_SEQ) : 0;
    needed |= part->has_expiry ? PART_BIT(SECTION_EXPIRY) : 0;
    needed |= part->kill_count ? PART_BIT(SECTION_KILL) : 0;
    needed |= part->vector_count ? PART_BIT(SECTION_VEC) : 0;
    if (part->vector_count > part->info.rows)
        return part_corrupt(part, SECTION_VEC, 0, "more vectors than rows", err);
    needed |=
        part->vector_count && part->vector_count < part->info.rows ? PART_BIT(SECTION_VPRES) : 0;
    for (unsigned id = 1; id < SECTION_COUNT; id++) {
        struct part_section *section = &part->sections[id];
        if (!section->page_size)
            *section = (struct part_section){.page_size = PAGE_LARGE};
        bool fits = section->size ? size_fits(part, id, section) : !(needed & PART_BIT(id));
        if (fits)
            continue;
        och_error failure = {0};
        och_code code = part_corrupt(part, id, 0, "its size is wrong", &failure);
        if (!part_section_is_derived(id)) {
            if (err)
                *err = failure;
            return code;
        }
        part_note_damage(part, id, &failure);
        section->size = 0;
    }
    return OCH_OK;
}

static void part_free(struct part *part)
{
    for (unsigned id = 0; id < SECTION_COUNT; id++)
        cache_unpin(part->env.cache,
                    atomic_load_explicit(&part->resident[id], memory_order_acquire));
    cache_owner_drop(part->env.cache, part->owner);
    mutex_done(&part->mutex);
    for (size_t i = 0; i < COUNT_OF(part->few_reads); i++)
        mem_free(
            (void *)(uintptr_t)atomic_load_explicit(&part->few_reads[i], memory_order_acquire));
    mem_free(part->table_crcs);
    mem_free(part->names_at);
    mem_free(part);
}

static och_code open_all(struct part *part, const uuid *owners, size_t owner_count, och_error *err)
{
    TRY(read_directory(part, err));
    TRY(read_header(part, err));
    TRY(read_head(part, err));
    bool owned = false;
    for (size_t i = 0; i < owner_count && !owned; i++)
        owned = uuid_equal(part->info.collection, owners[i]);
    if (!owned) {
        char text[UUID_TEXT_SIZE];
        och_code code = part_corrupt(part, SECTION_HEAD, 0, "it belongs to collection", err);
        error_append(err, " %s", uuid_format(part->info.collection, text));
        return code;
    }
    return check_sections(part, err);
}

och_code part_open(const struct part_env *env, const struct part_ref *ref, uuid collection,
                   struct part **ret_part, och_error *err)
{
    return part_open_shared(env, ref, &collection, 1, ret_part, err);
}

och_code part_open_shared(const struct part_env *env, const struct part_ref *ref,
                          const uuid *owners, size_t owner_count, struct part **ret_part,
                          och_error *err)
{
    struct part *part = MEM_NEW(struct part);
    if (!part)
        return FAIL_NO_MEMORY(err, "a part");
    atomic_init(&part->refs, 1);
    part->env = *env;
    part->info.ref = *ref;
    part->owner = cache_owner_new(env->cache);
    mutex_init(&part->mutex, RANK_PART);
    och_code code = open_all(part, owners, owner_count, err);
    if (code != OCH_OK) {
        part_free(part);
        return code;
    }
    *ret_part = part;
    return OCH_OK;
}

struct part *part_ref_take(struct part *part)
{
    atomic_fetch_add_explicit(&part->refs, 1, memory_order_relaxed);
    return part;
}

void part_unref(struct part *part)
{
    // release: our use is over; acquire: so is everyone's, before it is freed
    if (part && atomic_fetch_sub_explicit(&part->refs, 1, memory_order_acq_rel) == 1)
        part_free(part);
}

/* ---- without a catalogue ---- */

och_code part_ref_at_end(struct store *store, object_id object, uint64_t end,
                         struct part_ref *ret_ref, uuid *ret_collection, och_error *err)
{
    uint8_t footer[FOOTER_SIZE];
    struct part_ref ref = {.object = object, .offset = end};
    if (end < HEADER_SIZE + FOOTER_SIZE)
        return bad(&ref, 0, "no part ends here", err);
    TRY(store_read(store, object, end - FOOTER_SIZE, footer, sizeof(footer), err));
    ref.size = load_u64(footer + 32);
    if (memcmp(footer, FOOTER_MAGIC, 8) != 0 ||
        kernel_get()->crc32c(0, footer, 60) != load_u32(footer + 60) || ref.size > end)
        return bad(&ref, 0, "no part ends here", err);
    TRY(check_version(&ref, 0, load_u16(footer + 8), err));
    ref.offset = end - ref.size;
    ref.head_len = load_u32(footer + 12);
    ref.dir_offset = load_u64(footer + 40);
    ref.dir_len = load_u32(footer + 48);
    ref.dir_crc = load_u32(footer + 52);
    // the collection stands in HEAD; only a look at the bytes here, part_open checks them
    uint8_t head[HEADER_SIZE + HEAD_SIZE];
    if (ref.size < sizeof(head) + FOOTER_SIZE)
        return bad(&ref, 0, "no part ends here", err);
    TRY(store_read(store, object, ref.offset, head, sizeof(head), err));
    memcpy(ret_collection->bytes, head + HEADER_SIZE + 8, 16);
    *ret_ref = ref;
    return OCH_OK;
}

/* ---- figures ---- */

const struct part_info *part_info(const struct part *part)
{
    return &part->info;
}

uint32_t part_vector_count(const struct part *part)
{
    return part->vector_count;
}

bool part_has_expiry(const struct part *part)
{
    return part->has_expiry;
}

bool part_all_vectors(const struct part *part)
{
    return part->vector_count == part->info.rows;
}

bool part_is_seq_ordered(const struct part *part)
{
    return part->flags & HEAD_SEQ_ORDER;
}

uint32_t part_damage(const struct part *part)
{
    return atomic_load_explicit(&part->damage, memory_order_relaxed);
}
