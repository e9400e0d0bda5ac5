/* SPDX-License-Identifier: GPL-3.0-or-later */
#define _GNU_SOURCE
#include "softnv.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The socket is named by SOFTTEE_NVML_SOCKET, or else is `nvml.sock` beside this library. */
static int socket_path(char *path, size_t capacity)
{
    const char *named = getenv("SOFTTEE_NVML_SOCKET");
    Dl_info library;
    const char *slash;
    int length;

    if (named != NULL && *named != '\0') {
        length = snprintf(path, capacity, "%s", named);
        return length > 0 && (size_t)length < capacity;
    }
    if (dladdr((void *)(uintptr_t)softnv_ask, &library) == 0 || library.dli_fname == NULL)
        return 0;
    slash = strrchr(library.dli_fname, '/');
    if (slash == NULL)
        return 0;
    length = snprintf(path, capacity, "%.*s/nvml.sock", (int)(slash - library.dli_fname), library.dli_fname);
    return length > 0 && (size_t)length < capacity;
}

static int transfer(int descriptor, uint8_t *bytes, size_t size, int sending)
{
    while (size > 0) {
        ssize_t moved = sending ? send(descriptor, bytes, size, MSG_NOSIGNAL) : recv(descriptor, bytes, size, 0);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return 0;
        bytes += moved;
        size -= (size_t)moved;
    }
    return 1;
}

static uint32_t little_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static int converse(int descriptor, const char *question, void *answer, size_t capacity, uint32_t *size)
{
    uint8_t head[8];
    char line[512];
    int length = snprintf(line, sizeof line, "%s\n", question);

    if (length < 0 || (size_t)length >= sizeof line)
        return SOFTNV_TOO_LARGE;
    if (!transfer(descriptor, (uint8_t *)line, (size_t)length, 1) || !transfer(descriptor, head, sizeof head, 0))
        return SOFTNV_UNREACHABLE;
    *size = little_endian(head + 4);
    if (*size > capacity)
        return SOFTNV_TOO_LARGE;
    if (!transfer(descriptor, answer, *size, 0))
        return SOFTNV_UNREACHABLE;
    return (int)(int32_t)little_endian(head);
}

int softnv_ask(const char *question, void *answer, size_t capacity, uint32_t *size)
{
    struct sockaddr_un address;
    int descriptor, status = SOFTNV_UNREACHABLE;

    *size = 0;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (!socket_path(address.sun_path, sizeof address.sun_path))
        return status;
    descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return status;
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) == 0)
        status = converse(descriptor, question, answer, capacity, size);
    close(descriptor);
    return status;
}

void softnv_hex(const uint8_t *bytes, size_t size, char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t at;

    for (at = 0; at < size; at++) {
        text[2 * at] = digits[bytes[at] >> 4];
        text[2 * at + 1] = digits[bytes[at] & 15];
    }
    text[2 * size] = '\0';
}
