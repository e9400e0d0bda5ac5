/* SPDX-License-Identifier: GPL-3.0-or-later
 * A stand-in for libnvidia-ml.so.1: the few functions that collecting confidential-computing evidence needs, answered by the soft TEE.
 * Structures and numbers are those of NVIDIA's nvml.h. */
#include "softnv.h"

#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, ARGUMENT_VERSION_MISMATCH = 25, UNKNOWN = 999 };

typedef struct {
    unsigned int environment, ccFeature, devToolsMode;
} State;

typedef struct {
    unsigned int version, environment, ccFeature, devToolsMode, multiGpuMode;
} Settings;

typedef struct {
    unsigned int certChainSize, attestationCertChainSize;
    unsigned char certChain[0x1000], attestationCertChain[0x1400];
} Certificate;

typedef struct {
    unsigned int isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
    unsigned char nonce[0x20], attestationReport[0x2000], cecAttestationReport[0x1000];
} Report;

static int status_of(int status)
{
    if (status == SOFTNV_UNREACHABLE)
        return DRIVER_NOT_LOADED;
    return status == SOFTNV_TOO_LARGE ? INSUFFICIENT_SIZE : status;
}

/* A handle is the device's number plus one, so that it is not NULL. */
static unsigned int number_of(const void *device)
{
    return (unsigned int)((uintptr_t)device - 1);
}

static int ask_text(const char *question, char *text, unsigned int length)
{
    uint32_t size;
    int status;

    if (text == NULL || length == 0)
        return INVALID_ARGUMENT;
    status = softnv_ask(question, text, length - 1, &size);
    text[status == SUCCESS ? size : 0] = '\0';
    return status_of(status);
}

static int ask_numbers(const char *question, unsigned int *numbers, unsigned int count)
{
    uint8_t bytes[64];
    uint32_t size;
    unsigned int at;
    int status = softnv_ask(question, bytes, sizeof bytes, &size);

    if (status != SUCCESS)
        return status_of(status);
    if (size != 4 * count)
        return UNKNOWN;
    for (at = 0; at < count; at++)
        numbers[at] = (unsigned int)bytes[4 * at] | (unsigned int)bytes[4 * at + 1] << 8 | (unsigned int)bytes[4 * at + 2] << 16 |
                      (unsigned int)bytes[4 * at + 3] << 24;
    return SUCCESS;
}

static int ask_device_text(const char *verb, const void *device, char *text, unsigned int length)
{
    char question[64];

    if (device == NULL)
        return INVALID_ARGUMENT;
    snprintf(question, sizeof question, "%s %u", verb, number_of(device));
    return ask_text(question, text, length);
}

int nvmlInit_v2(void)
{
    unsigned int count;
    return ask_numbers("gpus", &count, 1);
}

int nvmlShutdown(void)
{
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    return ask_text("driver", version, length);
}

int nvmlSystemGetConfComputeState(State *state)
{
    unsigned int found[4];
    int status = ask_numbers("state", found, 4);

    if (status == SUCCESS) {
        state->environment = found[0];
        state->ccFeature = found[1];
        state->devToolsMode = found[2];
    }
    return status;
}

int nvmlSystemGetConfComputeSettings(Settings *settings)
{
    if (settings->version != (sizeof *settings | 1u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    return ask_numbers("state", &settings->environment, 4);
}

int nvmlDeviceGetCount_v2(unsigned int *count)
{
    return ask_numbers("gpus", count, 1);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device)
{
    unsigned int count;
    int status = ask_numbers("gpus", &count, 1);

    if (status != SUCCESS)
        return status;
    if (index >= count)
        return INVALID_ARGUMENT;
    *device = (void *)(uintptr_t)(index + 1u);
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length)
{
    return ask_device_text("uuid", device, uuid, length);
}

int nvmlDeviceGetVbiosVersion(void *device, char *version, unsigned int length)
{
    return ask_device_text("vbios", device, version, length);
}

int nvmlDeviceGetArchitecture(void *device, unsigned int *architecture)
{
    char question[64];

    if (device == NULL)
        return INVALID_ARGUMENT;
    snprintf(question, sizeof question, "architecture %u", number_of(device));
    return ask_numbers(question, architecture, 1);
}

int nvmlDeviceGetConfComputeGpuCertificate(void *device, Certificate *certificate)
{
    char question[64];
    uint32_t size;
    int status;

    if (device == NULL)
        return INVALID_ARGUMENT;
    memset(certificate, 0, sizeof *certificate);
    snprintf(question, sizeof question, "certificate %u", number_of(device));
    status = softnv_ask(question, certificate->attestationCertChain, sizeof certificate->attestationCertChain, &size);
    if (status == SUCCESS)
        certificate->attestationCertChainSize = size;
    return status_of(status);
}

int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, Report *report)
{
    char nonce[2 * sizeof report->nonce + 1], question[128];
    uint32_t size;
    int status;

    if (device == NULL)
        return INVALID_ARGUMENT;
    softnv_hex(report->nonce, sizeof report->nonce, nonce);
    snprintf(question, sizeof question, "report %u %s", number_of(device), nonce);
    status = softnv_ask(question, report->attestationReport, sizeof report->attestationReport, &size);
    report->isCecAttestationReportPresent = report->cecAttestationReportSize = 0;
    report->attestationReportSize = status == SUCCESS ? size : 0;
    return status_of(status);
}
