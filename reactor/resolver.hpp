#pragma once

#include <weft/reactor/address.hpp>
#include <weft/reactor/future.hpp>

#include <memory>
#include <string>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

class Loop;

/// Looks host names up for one loop, which owns it (`LoopOptions::resolver`) and calls it on its
/// thread.
class Resolver {
public:
    virtual ~Resolver() = default;
    /// The addresses of `host`, each with `port`, in the order in which they should be tried. May
    /// be done before it returns. An unknown name and all else that goes wrong is the future's
    /// error, a `std::system_error`. A look-up that is cancelled may go on unheard. `loop` is the
    /// one that owns this.
    virtual Future<std::vector<Address>> look_up(Loop& loop, const std::string& host,
                                                 std::uint16_t port) = 0;
};

/// What a loop has without another: the names of its kernel (`Kernel::resolve`), which are those of
/// the system, by getaddrinfo(3), or of a simulated network. It waits for them on a thread of the
/// loop's executor.
std::unique_ptr<Resolver> make_kernel_resolver();

} // namespace weft

#pragma GCC visibility pop
