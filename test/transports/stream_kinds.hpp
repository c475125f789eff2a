#pragma once

#include "support/kernels.hpp"
#include "support/xor_transport.hpp"

#include <string>
#include <vector>

namespace weft::test {

/// A kind of stream transport: what it is made over, and the layers on it.
struct TransportKind {
    enum class Base { tcp, unix_socket, memory };
    Base base = Base::tcp;
    int layers = 0;     ///< each an `XorTransport` with a key of its own
    bool plain = false; ///< and a layer that changes nothing on top

    /// The protocol with its layers, the outermost of which has the first key.
    std::unique_ptr<Protocol> wrap(std::unique_ptr<Protocol> protocol) const {
        if (plain) protocol = std::make_unique<PlainLayer>(std::move(protocol));
        for (int i = 0; i < layers; ++i)
            protocol = std::make_unique<XorTransport>(std::move(protocol), unsigned(i));
        return protocol;
    }
};

/// A kind of transport on a kind of kernel: what a case of the contract is run with.
struct StreamStage : KernelKind {
    TransportKind transport;
};

/// Every kind of transport, each on a kernel where that is not another case already. What differs
/// by the kernel is below all of them; layers differ by how they stand on each other.
inline std::vector<StreamStage> all_streams() {
    using Base = TransportKind::Base;
    std::vector<StreamStage> stages;
    for (const KernelKind& kernel : all_kernels())
        stages.push_back({kernel, {}});
    const KernelKind epoll = real_kernels().front();
    const KernelKind sim = simulated_kernels().front();
    const auto add = [&](KernelKind kernel, const char* name, TransportKind kind) {
        kernel.name = name;
        stages.push_back({kernel, kind});
    };
    add(epoll, "epoll, unix", {.base = Base::unix_socket});
    add(epoll, "epoll, xor over tcp", {.layers = 1});
    add(sim, "sim, unix", {.base = Base::unix_socket});
    add(sim, "sim, memory", {.base = Base::memory});
    add(sim, "sim, plain layer over tcp", {.plain = true});
    add(sim, "sim, xor over tcp", {.layers = 1});
    add(sim, "sim, xor over unix", {.base = Base::unix_socket, .layers = 1});
    add(sim, "sim, xor over memory", {.base = Base::memory, .layers = 1});
    add(sim, "sim, xor over xor over tcp", {.layers = 2});
    add(sim, "sim, plain layer over 3 xor over memory",
        {.base = Base::memory, .layers = 3, .plain = true});
    return stages;
}

/// All but those over `base`.
inline std::vector<StreamStage> streams_without(TransportKind::Base base) {
    auto stages = all_streams();
    std::erase_if(stages,
                  [base](const StreamStage& stage) { return stage.transport.base == base; });
    return stages;
}

/// Those whose peer can reset them, with what came before still there to be read.
inline std::vector<StreamStage> streams_that_reset() {
    return streams_without(TransportKind::Base::unix_socket);
}

/// Those whose bytes are moved by calls of the kernel, which a case counts or makes fail.
inline std::vector<StreamStage> streams_of_sockets() {
    return streams_without(TransportKind::Base::memory);
}

/// Those over TCP.
inline std::vector<StreamStage> tcp_streams() {
    auto stages = all_streams();
    std::erase_if(stages, [](const StreamStage& stage) {
        return stage.transport.base != TransportKind::Base::tcp;
    });
    return stages;
}

/// The kind of transport, and of kernel, of this run of the test case.
#define WEFT_TEST_STREAM(kinds)                                                                    \
    const ::weft::test::StreamStage kernel_kind = GENERATE(from_range(::weft::test::kinds()));     \
    ::weft::test::kernel_of_case = kernel_kind.name;                                               \
    INFO("transport: " << kernel_kind.name)

} // namespace weft::test
