// Asks llama.cpp itself how much memory a model takes, for many settings in one process, without a byte of weights.
//
//   planner tensors META.gguf       the tensors that the engine would create for a file that holds only metadata
//   planner plan MODEL.gguf         reads settings from stdin, a line each, and prints what the engine would allocate
//
// It loads with `no_alloc` as llama-fit-params does, with two differences: outputs are reserved for as many tokens as
// a server asks for (llama-fit-params reserves them for a whole batch), and every buffer type is printed, CPU_REPACK too.
// GPUs are stand-ins: devices named CUDA0 ... that claim every operation, pad as the CUDA backend does (ggml-cuda.cu,
// get_alloc_size) and never compute, so that placement and the scheduler's plan for GPUs come from the real engine on a
// machine without one. Device kernels' own scratch memory is not part of any ggml buffer and not in these figures.

#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "gguf.h"
#include "llama-ext.h"
#include "llama-model.h"
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

static std::string g_log;

static void on_log(ggml_log_level, const char * text, void *) { g_log += text; }

// --- a GPU that is not there -----------------------------------------------------------------------------------------

struct stand_in {
    std::string name;
    ggml_backend_device device;
    ggml_backend_buffer_type type;
};

static std::vector<stand_in *> g_gpus;
static ggml_backend_reg g_reg;
static ggml_backend_buffer_type g_host;

static stand_in * self(ggml_backend_dev_t dev) { return (stand_in *) dev->context; }
static const char * type_name(ggml_backend_buffer_type_t type) { return ((stand_in *) type->context)->name.c_str(); }
static const char * host_name(ggml_backend_buffer_type_t) { return "CUDA_Host"; }
static void buffer_free(ggml_backend_buffer_t buffer) { free(buffer->context); }
static void * buffer_base(ggml_backend_buffer_t buffer) { return buffer->context; }
static void buffer_memset(ggml_backend_buffer_t, ggml_tensor *, uint8_t, size_t, size_t) {}
static void buffer_set(ggml_backend_buffer_t, ggml_tensor *, const void *, size_t, size_t) {}
static void buffer_get(ggml_backend_buffer_t, const ggml_tensor *, void *, size_t, size_t) {}
static void buffer_clear(ggml_backend_buffer_t, uint8_t) {}

static ggml_backend_buffer_t type_alloc(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_i iface = {};
    iface.free_buffer   = buffer_free;
    iface.get_base      = buffer_base;
    iface.memset_tensor = buffer_memset;
    iface.set_tensor    = buffer_set;
    iface.get_tensor    = buffer_get;
    iface.clear         = buffer_clear;
    // Never written to, so it costs address space only (recurrent state is allocated even without weights).
    void * data = nullptr;
    if (posix_memalign(&data, 4096, size ? size : 1) != 0) {
        return nullptr;
    }
    return ggml_backend_buffer_init(type, iface, data, size);
}

static size_t type_alignment(ggml_backend_buffer_type_t) { return 128; }

static size_t type_alloc_size(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    size_t size = ggml_nbytes(tensor);
    if (ggml_is_quantized(tensor->type) && tensor->ne[0] % 512 != 0) {
        size += ggml_row_size(tensor->type, 512 - tensor->ne[0] % 512);
    }
    return size;
}

static const char * backend_name(ggml_backend_t backend) { return self(backend->device)->name.c_str(); }
static void backend_free(ggml_backend_t backend) { delete backend; }
static void backend_wait(ggml_backend_t) {}
static ggml_status backend_compute(ggml_backend_t, ggml_cgraph *) { return GGML_STATUS_SUCCESS; }
static void backend_record(ggml_backend_t, ggml_backend_event_t) {}

static const char * dev_name(ggml_backend_dev_t dev) { return self(dev)->name.c_str(); }
static void dev_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = size_t(1) << 40; }
static enum ggml_backend_dev_type dev_kind(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }

static void dev_props(ggml_backend_dev_t dev, ggml_backend_dev_props * props) {
    props->name = props->description = dev_name(dev);
    props->type = GGML_BACKEND_DEVICE_TYPE_GPU;
    props->device_id = nullptr;
    dev_memory(dev, &props->memory_free, &props->memory_total);
    props->caps = { true, true, false, true, true };
}

static ggml_backend_t dev_init(ggml_backend_dev_t dev, const char *) {
    static ggml_guid guid = { 1 };
    ggml_backend_i iface = {};
    iface.get_name      = backend_name;
    iface.free          = backend_free;
    iface.synchronize   = backend_wait;
    iface.graph_compute = backend_compute;
    iface.event_record  = backend_record;
    iface.event_wait    = backend_record;
    return new ggml_backend{ &guid, iface, dev, nullptr };
}

static ggml_backend_buffer_type_t dev_type_of(ggml_backend_dev_t dev) { return &self(dev)->type; }
static ggml_backend_buffer_type_t dev_host(ggml_backend_dev_t) { return &g_host; }
static bool dev_supports_op(ggml_backend_dev_t, const ggml_tensor *) { return true; }
static bool dev_supports_buft(ggml_backend_dev_t dev, ggml_backend_buffer_type_t type) {
    return type == &self(dev)->type;
}

// get_op_batch_size in ggml-cuda.cu, with its default threshold
static bool dev_offload(ggml_backend_dev_t, const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_GET_ROWS:   return false;
        case GGML_OP_MUL_MAT:    return op->ne[1] >= 32;
        case GGML_OP_MUL_MAT_ID:
        case GGML_OP_ROPE:
        case GGML_OP_ROPE_BACK:  return op->ne[2] >= 32;
        default:                 return ggml_nrows(op) >= 32;
    }
}

static ggml_backend_event_t dev_event(ggml_backend_dev_t dev) { return new ggml_backend_event{ dev, nullptr }; }
static void dev_event_free(ggml_backend_dev_t, ggml_backend_event_t event) { delete event; }
static void dev_event_wait(ggml_backend_dev_t, ggml_backend_event_t) {}

static const char * reg_name(ggml_backend_reg_t) { return "CUDA"; }
static size_t reg_count(ggml_backend_reg_t) { return g_gpus.size(); }
static ggml_backend_dev_t reg_get(ggml_backend_reg_t, size_t index) { return &g_gpus[index]->device; }
static void * reg_address(ggml_backend_reg_t, const char *) { return nullptr; }

static void register_gpus(int count) {
    for (int i = 0; i < count; i++) {
        auto * gpu = new stand_in();
        gpu->name = "CUDA" + std::to_string(i);
        gpu->device = { { dev_name, dev_name, dev_memory, dev_kind, dev_props, dev_init, dev_type_of, dev_host, nullptr,
                          dev_supports_op, dev_supports_buft, dev_offload, dev_event, dev_event_free, dev_event_wait },
                        &g_reg, gpu };
        gpu->type = { { type_name, type_alloc, type_alignment, nullptr, type_alloc_size, nullptr }, &gpu->device, gpu };
        g_gpus.push_back(gpu);
    }
    g_host = *ggml_backend_cpu_buffer_type();
    g_host.iface.get_name = host_name;
    g_host.device = &g_gpus[0]->device;
    g_reg = { GGML_BACKEND_API_VERSION, { reg_name, reg_count, reg_get, reg_address }, nullptr };
    ggml_backend_register(&g_reg);
}

// --- the two commands ------------------------------------------------------------------------------------------------

static void no_data(ggml_tensor *, void *) {}

static int list_tensors(const char * path) {
    gguf_context * meta = gguf_init_from_file(path, { true, nullptr });
    if (!meta) {
        return 1;
    }
    llama_model_params params = llama_model_default_params();
    params.no_alloc = true;
    params.load_mtp = true;
    params.n_gpu_layers = 0;
    llama_model * model = llama_model_init_from_user(meta, no_data, nullptr, params);
    if (!model) {
        fprintf(stderr, "%s", g_log.c_str());
        return 1;
    }
    for (const auto & [name, tensor] : model->tensors_by_name) {
        printf("%s %lld %lld %lld %lld\n", name.c_str(), (long long) tensor->ne[0], (long long) tensor->ne[1],
               (long long) tensor->ne[2], (long long) tensor->ne[3]);
    }
    return 0;
}

static int number(const std::string & line, const char * key, int otherwise) {
    const auto at = (" " + line).find(std::string(" ") + key + "=");
    return at == std::string::npos ? otherwise : atoi(line.c_str() + at + strlen(key) + 1);
}

static void quoted(const std::string & text) {
    putchar('"');
    for (char c : text) {
        if (c == '\n') {
            printf("\\n");
        } else if (c == '"' || c == '\\' || (unsigned char) c < 32) {
            putchar(' ');
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

static llama_model * load(const char * path, const std::string & line) {
    static std::vector<ggml_backend_dev_t> devices;
    static std::vector<llama_model_tensor_buft_override> overrides;
    static std::vector<std::string> patterns;
    devices.clear();
    overrides.clear();
    patterns.clear();
    for (int i = 0; i < number(line, "gpus", 0); i++) {
        devices.push_back(&g_gpus.at(i)->device);
    }
    devices.push_back(nullptr);
    const int cpu_moe = number(line, "cpu_moe", 0);
    for (int i = 0; i < cpu_moe; i++) {
        // llm_ffn_exps_block_regex in common/common.h
        patterns.push_back("blk\\." + std::to_string(i) + "\\.ffn_(up|down|gate|gate_up)_(ch|)exps");
    }
    for (const auto & pattern : patterns) {
        overrides.push_back({ pattern.c_str(), ggml_backend_cpu_buffer_type() });
    }
    overrides.push_back({ nullptr, nullptr });
    static std::vector<float> split;
    split.assign(llama_max_devices(), 1.0f);  // equal shares, whatever memory is free
    llama_model_params params = llama_model_default_params();
    params.devices = devices.data();
    params.tensor_split = split.data();
    params.no_alloc = true;
    params.load_mode = LLAMA_LOAD_MODE_NONE;
    params.n_gpu_layers = number(line, "ngl", 999);
    params.use_extra_bufts = number(line, "repack", 1) != 0;
    params.load_mtp = number(line, "mtp", 0) != 0;
    if (cpu_moe) {
        params.tensor_buft_overrides = overrides.data();
    }
    return llama_model_load_from_file(path, params);
}

static bool plan_one(llama_model * model, const std::string & line) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = number(line, "ctx", 4096);
    params.n_batch = number(line, "batch", 2048);
    params.n_ubatch = number(line, "ubatch", 512);
    params.n_seq_max = number(line, "slots", 1);
    params.n_outputs_max = number(line, "outputs", params.n_seq_max);
    params.n_outputs_max_per_seq = 1;
    params.type_k = (ggml_type) number(line, "k", GGML_TYPE_F16);
    params.type_v = (ggml_type) number(line, "v", GGML_TYPE_F16);
    params.flash_attn_type = number(line, "fa", 1) ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.kv_unified = number(line, "unified", 0) != 0;
    params.swa_full = number(line, "swa_full", 0) != 0;
    params.offload_kqv = number(line, "kv_gpu", 1) != 0;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        return false;
    }
    printf("{\"buffers\": {");
    const char * comma = "";
    for (const auto & [type, size] : llama_get_memory_breakdown(context)) {
        printf("%s\"%s\": [%zu, %zu, %zu]", comma, ggml_backend_buft_name(type), size.model, size.context, size.compute);
        comma = ", ";
    }
    printf("}, \"log\": ");
    std::string kept;
    std::istringstream lines(g_log);
    for (std::string one; std::getline(lines, one);) {
        if (one.find("buffer size") != std::string::npos || one.find(": size =") != std::string::npos) {
            kept += one + "\n";
        }
    }
    quoted(kept);
    printf("}\n");
    llama_free(context);
    return true;
}

static int plan(const char * path) {
    std::string loaded_for;
    llama_model * model = nullptr;
    for (std::string line; std::getline(std::cin, line);) {
        std::string wanted;
        for (const char * key : { "gpus", "ngl", "cpu_moe", "repack", "mtp" }) {
            wanted += std::to_string(number(line, key, -1)) + " ";
        }
        g_log.clear();
        if (!model || wanted != loaded_for) {
            llama_model_free(model);
            model = load(path, line);
            loaded_for = wanted;
        }
        if (!model || !plan_one(model, line)) {
            printf("{\"error\": ");
            quoted(g_log.size() > 2000 ? g_log.substr(g_log.size() - 2000) : g_log);
            printf("}\n");
        }
        fflush(stdout);
    }
    llama_model_free(model);
    return 0;
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: planner tensors|plan FILE\n");
        return 2;
    }
    llama_log_set(on_log, nullptr);
    register_gpus(2);
    llama_backend_init();
    return strcmp(argv[1], "tensors") == 0 ? list_tensors(argv[2]) : plan(argv[2]);
}
