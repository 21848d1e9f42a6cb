/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of a collection, inside gateway/ only. */
#ifndef GATEWAY_RULE_VERSION_H
#define GATEWAY_RULE_VERSION_H

#include "gateway/gateway_internal.h"

/** A view of a version, by the version's clock.  Errors: OCH_NOT_FOUND (collection, version), else as view_acquire. */
MUST_USE och_code gateway_version_view(struct gateway *gateway, const struct gateway_scope *scope,
                                       uuid collection, const struct gateway_version_ref *ref,
                                       struct view **ret_view, och_error *err);
/** A view of the state that the scope names: a version, that of a read token, or everything acknowledged.  Errors: as above, OCH_STALE: the token. */
MUST_USE och_code gateway_view(struct gateway *gateway, const struct gateway_scope *scope,
                               uuid collection, struct view **ret_view, och_error *err);
#endif
