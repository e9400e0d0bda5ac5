/* SPDX-License-Identifier: GPL-3.0-or-later
 * A stand-in for libnvidia-nscq.so.2: the paths that collecting evidence of NVSwitches needs, answered by the soft TEE.
 * Types, paths and numbers are those of NVIDIA's nscq.h, version 2. */
#include "softnv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_IMPLEMENTED = -1, INVALID_UUID = -2, OVERFLOW = -4, UNEXPECTED_VALUE = -5, DRIVER_ERROR = -7, LS10 = 2 };

typedef int8_t Status;
typedef struct { uint8_t bytes[16]; } Uuid;
typedef struct { char data[64]; } Label;
typedef struct { uint32_t report_size; uint8_t report[0x2000]; } Report;
typedef struct { uint8_t cert_chain[0x1400]; uint32_t cert_chain_size; } Certificate;
typedef struct { uint8_t nonce[32]; int has_nonce; } Session;
typedef struct { Status rc; Session *session; } SessionResult;
typedef void (*Function)(void);

static Status status_of(int status)
{
    if (status == SOFTNV_UNREACHABLE)
        return DRIVER_ERROR;
    return (Status)(status == SOFTNV_TOO_LARGE ? OVERFLOW : status);
}

SessionResult nscq_session_create(uint32_t flags)
{
    SessionResult result = { DRIVER_ERROR, NULL };
    uint8_t uuids[16 * 64];
    uint32_t size;

    (void)flags;
    result.rc = status_of(softnv_ask("switches", uuids, sizeof uuids, &size));
    if (result.rc == OK)
        result.session = calloc(1, sizeof *result.session);
    return result;
}

void nscq_session_destroy(Session *session)
{
    free(session);
}

Status nscq_session_set_input(Session *session, uint32_t flags, void *data, uint32_t size)
{
    (void)flags;
    if (session == NULL || size != sizeof session->nonce)
        return UNEXPECTED_VALUE;
    memcpy(session->nonce, data, size);
    session->has_nonce = 1;
    return OK;
}

Status nscq_uuid_to_label(const Uuid *uuid, Label *label, uint32_t flags)
{
    char text[33];

    (void)flags;
    softnv_hex(uuid->bytes, sizeof uuid->bytes, text);
    memset(label, 0, sizeof *label);
    snprintf(label->data, sizeof label->data, "SWX-%.8s-%.4s-%.4s-%.4s-%.12s", text, text + 8, text + 12, text + 16, text + 20);
    return OK;
}

/* Which switch a path of the form /SWX-.../rest names; -1 if none. `rest` is set to what follows. */
static int switch_of(const char *path, const uint8_t *uuids, uint32_t size, const char **rest)
{
    Label label;
    uint32_t at;

    for (at = 0; at + 16 <= size; at += 16) {
        nscq_uuid_to_label((const Uuid *)(const void *)(uuids + at), &label, 0);
        if (path[0] == '/' && strncmp(path + 1, label.data, strlen(label.data)) == 0) {
            *rest = path + 1 + strlen(label.data);
            return (int)(at / 16);
        }
    }
    return -1;
}

static Status observe_report(Session *session, int number, const Uuid *device, Function call, void *data)
{
    char nonce[65], question[128];
    Report report;
    Status status;

    if (!session->has_nonce)
        return UNEXPECTED_VALUE;
    softnv_hex(session->nonce, sizeof session->nonce, nonce);
    snprintf(question, sizeof question, "switch-report %d %s", number, nonce);
    memset(&report, 0, sizeof report);
    status = status_of(softnv_ask(question, report.report, sizeof report.report, &report.report_size));
    ((void (*)(const Uuid *, Status, const Report, void *))call)(device, status, report, data);
    return OK;
}

static Status observe_certificate(int number, const Uuid *device, Function call, void *data)
{
    Certificate certificate;
    char question[64];
    Status status;

    memset(&certificate, 0, sizeof certificate);
    snprintf(question, sizeof question, "switch-certificate %d", number);
    status = status_of(softnv_ask(question, certificate.cert_chain, sizeof certificate.cert_chain, &certificate.cert_chain_size));
    ((void (*)(const Uuid *, Status, const Certificate, void *))call)(device, status, certificate, data);
    return OK;
}

Status nscq_session_path_observe(Session *session, const char *path, Function call, void *data, uint32_t flags)
{
    uint8_t uuids[16 * 64];
    uint32_t size, at;
    const char *rest = "";
    const Uuid *device;
    Status status;
    int number;

    (void)flags;
    if (session == NULL)
        return UNEXPECTED_VALUE;
    status = status_of(softnv_ask("switches", uuids, sizeof uuids, &size));
    if (status != OK)
        return status;
    for (at = 0; at + 16 <= size; at += 16) {
        device = (const Uuid *)(const void *)(uuids + at);
        if (strcmp(path, "/drv/nvswitch/{device}/uuid") == 0)
            ((void (*)(const Uuid *, Status, const Uuid *, void *))call)(device, OK, device, data);
        else if (strcmp(path, "/{nvswitch}/id/arch") == 0)
            ((void (*)(const Uuid *, Status, int8_t, void *))call)(device, OK, LS10, data);
    }
    if (strchr(path, '{') != NULL)
        return OK;
    number = switch_of(path, uuids, size, &rest);
    if (number < 0)
        return INVALID_UUID;
    device = (const Uuid *)(const void *)(uuids + 16 * number);
    if (strcmp(rest, "/config/attestation_report") == 0)
        return observe_report(session, number, device, call, data);
    if (strcmp(rest, "/config/certificate") == 0)
        return observe_certificate(number, device, call, data);
    return NOT_IMPLEMENTED;
}
