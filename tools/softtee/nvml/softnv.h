/* SPDX-License-Identifier: GPL-3.0-or-later
 * How the stubs of NVIDIA's libraries ask the soft TEE. One connection per question:
 * a line of text goes out; a status and a length (both 32 bits, little endian) and so many bytes come back. */
#ifndef SOFTNV_H
#define SOFTNV_H

#include <stddef.h>
#include <stdint.h>

#define SOFTNV_UNREACHABLE (-1000)
#define SOFTNV_TOO_LARGE (-1001)

/* Ask `question`, put at most `capacity` bytes of the answer into `answer` and their number into `size`.
 * Returns the status that the soft TEE gives, or one of the two above. */
int softnv_ask(const char *question, void *answer, size_t capacity, uint32_t *size);

/* Write `size` bytes as hexadecimal text, with a zero behind it, into `text`. */
void softnv_hex(const uint8_t *bytes, size_t size, char *text);

#endif
