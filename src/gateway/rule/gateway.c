/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's life, and the rules on names and dimensions. */
#include "gateway/rule/token.h"

#include "model/limits.h"

#include <inttypes.h>

och_code gateway_new(const struct gateway_options *options, struct gateway **ret_gateway,
                     och_error *err)
{
    struct gateway *gateway = MEM_NEW(struct gateway);
    if (!gateway)
        return FAIL_NO_MEMORY(err, "the gateway");
    gateway->options = *options;
    och_code code = gateway_http_meter_new(&gateway->meter, err);
    if (code == OCH_OK)
        code = tokens_new(gateway, &gateway->tokens, err);
    if (code != OCH_OK) {
        gateway_http_meter_free(gateway->meter);
        mem_free(gateway);
        return code;
    }
    if (options->compactor)
        compactor_set_tick(options->compactor, tokens_sweep, gateway->tokens);
    mutex_init(&gateway->lock, RANK_LEAF);
    mutex_init(&gateway->drop_lock, RANK_GATEWAY);
    mutex_init(&gateway->update_lock, RANK_GATEWAY);
    random_seed_system(&gateway->random);
    *ret_gateway = gateway;
    return OCH_OK;
}

void gateway_free(struct gateway *gateway)
{
    if (!gateway)
        return;
    tokens_free(gateway->tokens);
    mutex_done(&gateway->update_lock);
    mutex_done(&gateway->drop_lock);
    mutex_done(&gateway->lock);
    gateway_http_meter_free(gateway->meter);
    mem_free(gateway);
}

struct http_handler gateway_handler(struct gateway *gateway)
{
    return (struct http_handler){.context = gateway,
                                 .handle = gateway_http_handle,
                                 .admit = gateway_http_admit,
                                 .is_cheap = gateway_http_is_cheap,
                                 .intake = gateway_http_intake,
                                 .refuse = gateway_http_refuse};
}

uuid gateway_new_id(struct gateway *gateway)
{
    mutex_lock(&gateway->lock);
    uuid id = uuid_random(&gateway->random);
    mutex_unlock(&gateway->lock);
    return id;
}

static bool is_alphanumeric(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_plain_name(slice name)
{
    if (name.len < LIMIT_NAME_MIN || name.len > LIMIT_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        if (!is_alphanumeric(c) && c != '.' && c != '_' && c != '-')
            return false;
    }
    return is_alphanumeric(name.at[0]) && is_alphanumeric(name.at[name.len - 1]);
}

/* Four decimal numbers of at most 255, none with a leading zero, with dots between. */
static bool is_ipv4(slice name)
{
    unsigned fields = 1, digits = 0, value = 0;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        if (c == '.') {
            if (digits == 0 || ++fields > 4)
                return false;
            digits = value = 0;
        } else if (c >= '0' && c <= '9') {
            if (digits > 0 && value == 0)
                return false;
            value = value * 10 + (c - '0');
            if (++digits > 3 || value > 255)
                return false;
        } else {
            return false;
        }
    }
    return fields == 4 && digits > 0;
}

static och_code check_part(slice name, slice whole, och_error *err)
{
    if (!is_plain_name(name))
        return FAIL(err, OCH_INVALID,
                    "Expected a name containing 3-512 characters from [a-zA-Z0-9._-], starting and "
                    "ending with a character in [a-zA-Z0-9]. Got: %.*s",
                    SLICE_ARG(whole));
    for (size_t i = 0; i + 1 < name.len; i++) {
        if (name.at[i] == '.' && name.at[i + 1] == '.')
            return FAIL(
                err, OCH_INVALID,
                "Expected a name that does not contains two consecutive periods (..). Got %.*s",
                SLICE_ARG(whole));
    }
    if (is_ipv4(name))
        return FAIL(err, OCH_INVALID, "Expected a name that is not a valid ip address. Got %.*s",
                    SLICE_ARG(whole));
    return OCH_OK;
}

och_code gateway_check_name(slice name, och_error *err)
{
    size_t pluses = 0, at = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] == '+') {
            pluses++;
            at = i;
        }
    }
    if (pluses > 1)
        return FAIL(err, OCH_INVALID,
                    "Expected a name to contain at most one topology:  Got two `+` characters.");
    if (pluses == 0)
        return check_part(name, name, err);
    if (name.len > LIMIT_NAME_MAX)
        return check_part(name, name, err);
    TRY(check_part(slice_make(name.at, at), name, err));
    return check_part(slice_from(name, at + 1), name, err);
}

och_code gateway_dimension(struct gateway *gateway, uuid collection, uint32_t *ret_dimension,
                           och_error *err)
{
    uint64_t head;
    return wal_head(gateway->options.wal, collection, &head, ret_dimension, err);
}

och_code gateway_check_dimension(struct gateway *gateway, const struct sysdb_collection *collection,
                                 uint32_t dimension, och_error *err)
{
    if (dimension > LIMIT_DIMENSION_MAX)
        return FAIL(err, OCH_QUOTA,
                    "Quota exceeded: embeddings of dimension %" PRIu32 ", at most %d", dimension,
                    LIMIT_DIMENSION_MAX);
    uint32_t have = collection->dimension;
    if (!have) // only the log knows it until there is a part
        TRY(gateway_dimension(gateway, collection->id, &have, err));
    if (dimension && have && have != dimension)
        return FAIL(err, OCH_INVALID,
                    "Collection expecting embedding with dimension of %" PRIu32 ", got %" PRIu32,
                    have, dimension);
    return OCH_OK;
}
