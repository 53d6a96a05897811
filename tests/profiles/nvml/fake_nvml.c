/* NVML's C interface over a text file, so that the real nvidia-ml-py can be shown cards that are not there.
 *
 * The file is named by QUANTSWEEP_FAKE_NVML and holds lines "key=value". It is read anew at every call: a test can make a
 * card allocate, fail or vanish while it is being watched. Keys, where N is the index of a card and M of a MIG instance:
 *
 *   driver, cuda, count                            of the system
 *   N.name  N.uuid  N.pci  N.total  N.used  N.free (default total - used)
 *   N.capability ("12.0")  N.bus_bits  N.mem_mhz_max  N.mem_mhz  N.sm_mhz  N.power_mw  N.limit_mw  N.energy_mj
 *   N.celsius  N.throttle (bits)  N.mig ("1": MIG mode)  N.mig_places
 *   N.compute.I, N.graphics.I ("pid bytes", bytes "na" for a driver that will not tell)
 *   N.mig.M.name, .uuid, .total, .used ...         a MIG instance
 *   error.FUNCTION, N.error.FUNCTION, N.error      the number of the NVML error to answer with
 *
 * A figure that is not in the file is answered with "not supported". Types and numbers follow nvml.h (NVIDIA's public
 * API reference); nothing of NVIDIA's is in here.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define NOT_AVAILABLE UINT64_MAX
#define MIG_BASE 1000

typedef int result_t;
typedef uintptr_t handle_t; /* 1 + index of a card; MIG_BASE * (1 + index) + 1 + place of a MIG instance */

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_t;
typedef struct { unsigned int version; unsigned int sensor; int celsius; } temperature_t;
typedef struct {
    char legacy[16];
    unsigned int domain, bus, device, id, subsystem;
    char bus_id[32];
} pci_t;

/* The value of a key, or NULL. One static buffer: the caller copies before it asks again. */
static const char *look(const char *key) {
    static __thread char line[512];
    const char *path = getenv("QUANTSWEEP_FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = strlen(key);
    const char *value = NULL;
    while (file && !value && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        if (!strncmp(line, key, length) && line[length] == '=') value = line + length + 1;
    }
    if (file) fclose(file);
    return value;
}

static void prefix(handle_t handle, char *out, size_t size) {
    if (handle > MIG_BASE)
        snprintf(out, size, "%lu.mig.%lu", (unsigned long)(handle / MIG_BASE - 1), (unsigned long)(handle % MIG_BASE - 1));
    else
        snprintf(out, size, "%lu", (unsigned long)(handle - 1));
}

static const char *of(handle_t handle, const char *name) {
    char start[64], key[160];
    prefix(handle, start, sizeof start);
    snprintf(key, sizeof key, "%s.%s", start, name);
    return look(key);
}

/* The error that the file wants from this function, 0 for none. handle 0: a question to the system. */
static result_t failure(handle_t handle, const char *function) {
    char name[128];
    const char *value;
    snprintf(name, sizeof name, "error.%s", function);
    if ((value = look(name))) return atoi(value);
    if (!handle) return SUCCESS;
    if ((value = of(handle, "error"))) return atoi(value);
    if ((value = of(handle, name))) return atoi(value);
    return SUCCESS;
}

#define FAIL(handle)                                   \
    do {                                               \
        result_t wanted = failure(handle, __func__);   \
        if (wanted) return wanted;                     \
    } while (0)

static result_t text(const char *value, char *out, unsigned int size) {
    if (!value) return NOT_SUPPORTED;
    if (strlen(value) + 1 > size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

static result_t number(handle_t handle, const char *name, unsigned long long *out) {
    const char *value = of(handle, name);
    if (!value) return NOT_SUPPORTED;
    *out = strtoull(value, NULL, 0);
    return SUCCESS;
}

static result_t small(handle_t handle, const char *name, unsigned int *out) {
    unsigned long long value = 0;
    result_t result = number(handle, name, &value);
    if (!result) *out = (unsigned int)value;
    return result;
}

API result_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    FAIL(0);
    return getenv("QUANTSWEEP_FAKE_NVML") ? SUCCESS : DRIVER_NOT_LOADED;
}
API result_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API result_t nvmlShutdown(void) { return SUCCESS; }
API const char *nvmlErrorString(result_t result) {
    static __thread char words[64];
    snprintf(words, sizeof words, "NVML error %d", result);
    return words;
}
API result_t nvmlSystemGetDriverVersion(char *out, unsigned int size) { FAIL(0); return text(look("driver"), out, size); }
API result_t nvmlSystemGetCudaDriverVersion(int *out) {
    const char *value = look("cuda");
    FAIL(0);
    if (!value) return NOT_SUPPORTED;
    *out = atoi(value);
    return SUCCESS;
}
API result_t nvmlDeviceGetCount_v2(unsigned int *out) {
    const char *value;
    FAIL(0);
    value = look("count");
    *out = value ? (unsigned int)atoi(value) : 0;
    return SUCCESS;
}
API result_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, handle_t *out) {
    unsigned int count = 0;
    result_t wanted = nvmlDeviceGetCount_v2(&count);
    if (wanted) return wanted;
    if (index >= count) return INVALID_ARGUMENT;
    FAIL(index + 1);
    *out = index + 1;
    return SUCCESS;
}
static unsigned int places(handle_t handle) {
    unsigned int count = 0;
    return small(handle, "mig_places", &count) ? 0 : count;
}
API result_t nvmlDeviceGetHandleByUUID(const char *uuid, handle_t *out) {
    unsigned int count = 0;
    result_t wanted = nvmlDeviceGetCount_v2(&count);
    if (wanted) return wanted;
    for (handle_t card = 1; card <= count; card++) {
        const char *value = of(card, "uuid");
        if (value && !strcmp(value, uuid)) { FAIL(card); *out = card; return SUCCESS; }
        for (unsigned int place = 0; place < places(card); place++) {
            handle_t instance = MIG_BASE * card + place + 1;
            value = of(instance, "uuid");
            if (value && !strcmp(value, uuid)) { FAIL(instance); *out = instance; return SUCCESS; }
        }
    }
    return NOT_FOUND;
}
API result_t nvmlDeviceGetName(handle_t h, char *out, unsigned int size) { FAIL(h); return text(of(h, "name"), out, size); }
API result_t nvmlDeviceGetUUID(handle_t h, char *out, unsigned int size) { FAIL(h); return text(of(h, "uuid"), out, size); }
API result_t nvmlDeviceGetPciInfo_v3(handle_t h, pci_t *out) {
    FAIL(h);
    memset(out, 0, sizeof *out);
    return text(of(h, "pci"), out->bus_id, sizeof out->bus_id);
}
API result_t nvmlDeviceGetMemoryInfo(handle_t h, memory_t *out) {
    result_t result;
    FAIL(h);
    if ((result = number(h, "total", &out->total))) return result;
    if (number(h, "used", &out->used)) out->used = 0;
    if (number(h, "free", &out->free)) out->free = out->total - out->used;
    return SUCCESS;
}
API result_t nvmlDeviceGetMemoryInfo_v2(handle_t h, memory_v2_t *out) {
    memory_t plain = {0};
    result_t result = nvmlDeviceGetMemoryInfo(h, &plain);
    out->total = plain.total; out->free = plain.free; out->used = plain.used; out->reserved = 0;
    return result;
}
API result_t nvmlDeviceGetCudaComputeCapability(handle_t h, int *major, int *minor) {
    const char *value;
    FAIL(h);
    value = of(h, "capability");
    return value && sscanf(value, "%d.%d", major, minor) == 2 ? SUCCESS : NOT_SUPPORTED;
}
/* Clock domains of nvml.h: 0 graphics, 1 SM, 2 memory. */
API result_t nvmlDeviceGetMaxClockInfo(handle_t h, int domain, unsigned int *out) {
    FAIL(h);
    return small(h, domain == 2 ? "mem_mhz_max" : "sm_mhz_max", out);
}
API result_t nvmlDeviceGetClockInfo(handle_t h, int domain, unsigned int *out) {
    FAIL(h);
    return small(h, domain == 2 ? "mem_mhz" : "sm_mhz", out);
}
API result_t nvmlDeviceGetMemoryBusWidth(handle_t h, unsigned int *out) { FAIL(h); return small(h, "bus_bits", out); }
API result_t nvmlDeviceGetEnforcedPowerLimit(handle_t h, unsigned int *out) { FAIL(h); return small(h, "limit_mw", out); }
API result_t nvmlDeviceGetPowerUsage(handle_t h, unsigned int *out) { FAIL(h); return small(h, "power_mw", out); }
API result_t nvmlDeviceGetUtilizationRates(handle_t h, unsigned int *out) { /* nvmlUtilization_t: gpu, memory */
    FAIL(h);
    out[1] = 0;
    return small(h, "gpu_percent", out);
}
API result_t nvmlDeviceGetTotalEnergyConsumption(handle_t h, unsigned long long *out) {
    FAIL(h);
    return number(h, "energy_mj", out);
}
API result_t nvmlDeviceGetTemperature(handle_t h, int sensor, unsigned int *out) {
    (void)sensor;
    FAIL(h);
    return small(h, "celsius", out);
}
API result_t nvmlDeviceGetTemperatureV(handle_t h, temperature_t *out) {
    unsigned int value = 0;
    result_t result;
    FAIL(h);
    if (!(result = small(h, "celsius", &value))) out->celsius = (int)value;
    return result;
}
API result_t nvmlDeviceGetCurrentClocksEventReasons(handle_t h, unsigned long long *out) {
    FAIL(h);
    return number(h, "throttle", out);
}
API result_t nvmlDeviceGetMigMode(handle_t h, unsigned int *current, unsigned int *pending) {
    result_t result;
    FAIL(h);
    result = small(h, "mig", current);
    *pending = *current;
    return result;
}
API result_t nvmlDeviceGetMaxMigDeviceCount(handle_t h, unsigned int *out) { FAIL(h); *out = places(h); return SUCCESS; }
API result_t nvmlDeviceGetMigDeviceHandleByIndex(handle_t h, unsigned int place, handle_t *out) {
    handle_t instance = MIG_BASE * h + place + 1;
    FAIL(h);
    if (!of(instance, "uuid")) return NOT_FOUND;
    *out = instance;
    return SUCCESS;
}

static result_t processes(handle_t h, const char *kind, unsigned int *count, process_t *out) {
    unsigned int found = 0, room = out ? *count : 0;
    for (;; found++) {
        char name[64], bytes[64] = "";
        unsigned int pid = 0;
        const char *value;
        snprintf(name, sizeof name, "%s.%u", kind, found);
        if (!(value = of(h, name)) || sscanf(value, "%u %63s", &pid, bytes) != 2) break;
        if (found < room) {
            memset(&out[found], 0, sizeof out[found]);
            out[found].pid = pid;
            out[found].used = !strcmp(bytes, "na") ? NOT_AVAILABLE : strtoull(bytes, NULL, 0);
        }
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
API result_t nvmlDeviceGetComputeRunningProcesses_v3(handle_t h, unsigned int *count, process_t *out) {
    FAIL(h);
    return processes(h, "compute", count, out);
}
API result_t nvmlDeviceGetGraphicsRunningProcesses_v3(handle_t h, unsigned int *count, process_t *out) {
    FAIL(h);
    return processes(h, "graphics", count, out);
}
