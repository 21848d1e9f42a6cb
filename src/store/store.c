/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch to the implementation. */
#include "store/store.h"

void store_free(struct store *store)
{
    if (store)
        store->ops->free(store);
}

och_code store_create(struct store *store, object_id id, struct store_writer **ret_writer,
                      och_error *err)
{
    return store->ops->create(store, id, ret_writer, err);
}

och_code store_append(struct store_writer *writer, const void *at, size_t len, och_error *err)
{
    return writer->store->ops->append(writer, at, len, err);
}

och_code store_finish(struct store_writer *writer, och_error *err)
{
    return writer->store->ops->finish(writer, err);
}

void store_abandon(struct store_writer *writer)
{
    if (writer)
        writer->store->ops->abandon(writer);
}

och_code store_read(struct store *store, object_id id, uint64_t offset, void *at, size_t len,
                    och_error *err)
{
    return store->ops->read(store, id, offset, at, len, err);
}

void store_read_batch(struct store *store, object_id id, struct io_read *reads, size_t count)
{
    store->ops->read_batch(store, id, reads, count);
}

void store_expect(struct store *store, object_id id, uint64_t offset, uint64_t len)
{
    store->ops->expect(store, id, offset, len);
}

och_code store_size(struct store *store, object_id id, uint64_t *ret_size, och_error *err)
{
    return store->ops->size(store, id, ret_size, err);
}

och_code store_remove(struct store *store, object_id id, och_error *err)
{
    return store->ops->remove(store, id, err);
}

och_code store_punch(struct store *store, object_id id, uint64_t offset, uint64_t len,
                     och_error *err)
{
    return store->ops->punch(store, id, offset, len, err);
}

och_code store_list(struct store *store, struct arena *arena, object_id **ret_ids,
                    size_t *ret_count, och_error *err)
{
    return store->ops->list(store, arena, ret_ids, ret_count, err);
}
