// SPDX-License-Identifier: Apache-2.0
// Nothing of ours: naming the crate puts its C functions into the archive.
extern crate rure;
